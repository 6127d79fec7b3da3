"""`penstock config`: check the settings file, show what is in force."""

from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json
from penstock.main.settings import load_settings

app = noun_app("The settings: check the file, show what is in force.")


@app.command(epilog="Example: penstock config check --home ./home")
def check(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Read penstock.toml and name every mistake with its line and a cure; exit 2 if there is one."""
    opened = open_home(home, as_json=as_json)
    load_settings(opened.settings)
    if as_json:
        print_json({"ok": True, "path": str(opened.settings)})
    else:
        print(f"{opened.settings} is right.")
