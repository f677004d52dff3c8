"""What the tests promise, read from their marks `promise` and `fault`.

python tests/reliability/matrix.py    prints the fault matrix and the promises with their tests, in Markdown
"""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[2]


@functools.cache
def marked(kind):
    """(test, class or file, what the mark says) of each mark of a kind."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in files}
    return [mark for place, tree in trees.items() for mark in _marks(tree.body, place, kind)]


def _marks(body, place, kind):
    for node in body:
        name, marks = place, []
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            marks = getattr(node.value, "elts", [node.value])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name, marks = f"{place}::{node.name}", node.decorator_list
        for mark in marks:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == f"pytest.mark.{kind}":
                yield name, [ast.literal_eval(part) for part in (*mark.args, *(word.value for word in mark.keywords))]
        if isinstance(node, ast.ClassDef):
            yield from _marks(node.body, name, kind)


if __name__ == "__main__":
    for kind, head in (("fault", ("fault", "what happens")), ("promise", ("promise",))):
        print("|", " | ".join((*head, "test")), "|\n|" + "---|" * (len(head) + 1))
        for test, said in marked(kind):
            print("|", " | ".join((*said, f"`{test}`")), "|")
        print()
