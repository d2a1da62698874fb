"""The modules in the browser, as far as reading them tells: imports exist, and no text ever becomes markup."""

import re
from pathlib import Path

import pytest

from web import assets

MODULES = sorted((assets.STATIC_FOLDER / "js").glob("*.js"))
EXPORT = re.compile(r"^export (?:async )?(?:function|const|class) (\w+)", re.MULTILINE)
IMPORT = re.compile(r"^import \{([^}]*)\} from \"\./(\w+\.js)\";", re.MULTILINE)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_imports_name_what_other_modules_export_and_are_used(module: Path) -> None:
    source = module.read_text(encoding="utf-8")

    assert len(IMPORT.findall(source)) == source.count("\nimport ") + source.startswith("import ")
    for names, origin in IMPORT.findall(source):
        exported = EXPORT.findall((module.parent / origin).read_text(encoding="utf-8"))
        for name in names.split(","):
            assert name.strip() in exported, origin
            assert len(re.findall(rf"\b{name.strip()}\b", source)) > 1, f"{name.strip()} is imported and not used"


def test_every_export_is_used() -> None:
    sources = {module: module.read_text(encoding="utf-8") for module in MODULES}
    imported = {
        name.strip() for source in sources.values() for names, _ in IMPORT.findall(source) for name in names.split(",")
    }

    unused = {
        name
        for source in sources.values()
        for name in EXPORT.findall(source)
        if name not in imported and len(re.findall(rf"\b{name}\b", source)) == 1
    }

    assert unused == set()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_text_never_becomes_markup_or_code(module: Path) -> None:
    source = module.read_text(encoding="utf-8")

    dangerous = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc|cssText"
    assert re.findall(dangerous, source) == []


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_icons_that_a_module_names_are_in_the_page(module: Path) -> None:
    source = module.read_text(encoding="utf-8")

    assert set(re.findall(r'\bicon\("([^"]+)"\)', source)) <= set(assets.ICONS)


def test_every_icon_of_the_page_is_used() -> None:
    folder = assets.STATIC_FOLDER.parent
    sources = "".join(path.read_text(encoding="utf-8") for path in [*folder.rglob("*.html"), *folder.rglob("*.js")])

    assert [name for name in assets.ICONS if f'"{name}"' not in sources] == []
