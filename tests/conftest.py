"""The order of the files: those with slow tests first, so that none is left over for one worker at the end."""


def pytest_collection_modifyitems(items):
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
