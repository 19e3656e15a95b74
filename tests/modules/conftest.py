import pytest


@pytest.fixture
def quietly():
    """Makes a module keep its logged values in a dict."""

    def quieten(module):
        module.logged = {}
        module.log = lambda name, value, **options: module.logged.update({name: float(value.detach())})
        return module

    return quieten
