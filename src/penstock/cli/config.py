"""`penstock config`: check the settings file, show what is in force."""

from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json
from penstock.main.settings_report import check_settings, show_settings

app = noun_app("The settings: check the file, show what is in force.")


@app.command(epilog="Example: penstock config check --home ./home")
def check(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Read penstock.toml and name every mistake with its line and a cure; exit 2 if there is one."""
    opened = open_home(home, as_json=as_json)
    report = check_settings(opened)
    if as_json:
        print_json(report)
        return
    there = "is right" if report["exists"] else "is not there, which is fine"
    print(
        f"{report['path']} {there}: {report['n_providers']} providers and {report['n_routes']} routes of its own."
    )
    for warning in report["warnings"]:
        print(f"note: {warning}")


@app.command(epilog="Example: penstock config show --json")
def show(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Print the settings in force, defaults included. Secrets are never in them."""
    values = show_settings(open_home(home, as_json=as_json))
    if as_json:
        print_json(values)
        return
    for section, content in values.items():
        for name, value in content.items():
            print(f"{section}.{name} = {value}")
