"""How the pages look that this package writes, in light and dark."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c1b22; --soft: #6a6775; --page: #f6f4ef; --card: #fff; --line: #e4e0d8;
  --accent: #b4472b; --tint: #fbe9e2; --second: #2d6a6a; --second-tint: #e0f0ef; }
@media (prefers-color-scheme: dark) { :root { --ink: #ece9f2; --soft: #a19db0; --page: #16151b; --card: #201e27;
  --line: #35323f; --accent: #f08a68; --tint: #3b2620; --second: #74c2bf; --second-tint: #1d3433; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: clamp(1.7rem, 5vw, 2.6rem); line-height: 1.15; margin: 0 0 .6rem; letter-spacing: -.02em; }
h2 { font-size: 1.5rem; margin: 0 0 .25rem; letter-spacing: -.01em; }
h3 { font-size: .8rem; text-transform: uppercase; letter-spacing: .09em; color: var(--soft); margin: 2rem 0 .7rem; }
p { margin: 0 0 .8rem; max-width: 46rem; }
.soft { color: var(--soft); }
.note { background: var(--tint); border-left: 4px solid var(--accent); padding: .8rem 1rem; border-radius: 0 8px 8px 0;
  margin: 1.4rem 0; max-width: none; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1.6rem; margin-top: 1.6rem; }
figure { margin: 0; } img { width: 100%; height: auto; display: block; border-radius: 8px; }
figcaption { font-size: .85rem; margin-top: .4rem; line-height: 1.35; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
td, th { padding: .3rem .5rem .3rem 0; text-align: left; vertical-align: middle; }
th { font-weight: 500; color: var(--soft); font-size: .8rem; }
pre { overflow-x: auto; font-size: .82rem; line-height: 1.45; background: var(--page); padding: 1rem; border-radius: 8px; }
footer { margin-top: 2.5rem; font-size: .85rem; color: var(--soft); }
"""
