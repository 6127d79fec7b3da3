"""`penstock traces remap`: works the fields of foreign spans out again, by the present mapping table."""

from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json
from penstock.cli.progress import ProgressLine

with late_imports():
    from penstock.main import remapping


def remap(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Map the spans of other senders anew, by the table of this version; what they sent stays as it is."""
    opened = open_home(home, as_json=as_json)
    with ProgressLine("remap", quiet=as_json) as line:
        result = remapping.remap_home(opened, line.tell)
    if as_json:
        print_json(result)
    else:
        print(
            f"{result.get('n_spans', 0)} spans are mapped by version {result.get('version')} of the table now"
        )
