"""The command line of connectors."""

import shutil

from click.testing import CliRunner

from connectors.cli import group
from connectors.engine import loader


def test_a_good_folder_is_ok_and_a_broken_one_says_where(tmp_path):
    folder = tmp_path / "demo-erp"
    shutil.copytree(loader.LIBRARY / "demo-erp", folder)
    good = CliRunner().invoke(group, ["validate", str(folder)])
    assert good.exit_code == 0, good.output
    text = (folder / "manifest.yaml").read_text().replace("effect: create", "effect: conjure")
    (folder / "manifest.yaml").write_text(text)
    bad = CliRunner().invoke(group, ["validate", str(folder)])
    assert bad.exit_code == 1
    assert "manifest.yaml:" in bad.output
