import sys; sys.path.insert(0,"/work/main/tests/nodes")
from test_mini_model import *
def test_m(drawer):
    for s in (0,1,42):
        o=drawer.command_line(s); print("same",255*difference(o,drawer.comfyui(s)), "std",255*o.std())
        for k in (dict(text=1),dict(image_weight=0),dict(interest_weight=0)):
            print(k,255*difference(o,drawer.comfyui(s,**k)))
