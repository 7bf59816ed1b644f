import pytest

from multiscale_sampler.extras import required


def test_required__imports_a_module_of_any_depth():
    assert required("json.decoder", "reading", "json").JSONDecoder is not None


def test_required__names_what_needs_a_missing_module_and_its_installation():
    install = "'multiscale-sampler[view]'"
    with pytest.raises(ModuleNotFoundError) as missing:
        required("no_such_module", "viewing needs no_such_module", install)
    assert str(missing.value) == f"viewing needs no_such_module; install it with: pip install {install}"
    assert isinstance(missing.value.__cause__, ModuleNotFoundError)
