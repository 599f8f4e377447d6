"""The notebooks run from start to end, and are stored without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
WRITTEN = {"quickstart": "omp/model.safetensors", "compare_methods": "mistral-llama/compare.csv"}
PICTURES = {"quickstart": 1, "compare_methods": 3}
SLOW = pytest.mark.slow  # it measures thirty ways to fill the rows


@pytest.mark.filterwarnings("default")  # the kernel's own libraries are not ours to mend
@pytest.mark.parametrize("name", ["quickstart", pytest.param("compare_methods", marks=SLOW)])
def test_the_notebook_runs(name, tmp_path, monkeypatch):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code), "strip the outputs before you commit"
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [
        output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == PICTURES[name]
    assert (tmp_path / "out" / WRITTEN[name]).is_file()


def test_every_notebook_is_run():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(WRITTEN) == set(PICTURES)
