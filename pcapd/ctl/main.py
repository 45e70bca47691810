"""``pcapctl``: commands and their options."""

from __future__ import annotations

import datetime
import json as json_module
import sys
from pathlib import Path
from typing import Any, NoReturn, Optional, Sequence, Tuple

import click

import pcapd
from pcapd.ctl.arguments import access_options, capture_options, token_file_option
from pcapd.ctl.completion import SHELLS, environments, files, one_of, script
from pcapd.ctl.extcap.calls import is_call
from pcapd.ctl.fileoptions import FileOptions
from pcapd.ctl.manual import EXIT_STATUS, page
from pcapd.ctl.options import (
    NOWHERE,
    Access,
    CaptureOptions,
    Trust,
    UsageProblem,
    Wanted,
    choose_form,
    default_output,
    parse_instances,
    read_token,
)
from pcapd.ctl.terminal import say
from pcapd.ctl.text import escape
from pcapd.errors import PcapdError

__all__ = ["main"]

_FAILED, _USAGE = 1, 2


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples:\n"
    "  pcapctl cf myapp --duration 30s\n"
    "  pcapctl bosh -d cf --group router --duration 30s\n"
    "  pcapctl hosts web-0 --filter 'tcp port 80' -o - | tshark -r -\n"
    "  pcapctl status",
)
@click.version_option(pcapd.__version__, prog_name="pcapctl")
def cli() -> None:
    """Capture network traffic from many machines into one file, in time order."""


@cli.command(
    epilog="\b\nExamples:\n"
    "  pcapctl cf myapp --duration 30s\n"
    "  pcapctl cf myapp --instance 0,2 --filter 'tcp port 8080' --output myapp.pcapng\n"
    "  pcapctl cf myapp --device eth0 --device lo      lo has in clear what Envoy encrypts on eth0\n"
    "  pcapctl cf worker --type worker --follow --duration 1h\n"
    "  pcapctl cf myapp --rotate-time 5m --rotate-files 12      the last hour\n"
    "  pcapctl cf myapp --print --filter 'port 53 or tcp port 8080'\n"
    "  pcapctl cf myapp --output - | wireshark -k -i -\n\n"
    "\b\nLog in first: cf login; choose the space: cf target -s SPACE.\n"
    "You need to be a space developer of the app's space.\n\n" + EXIT_STATUS
)
@click.argument("app", metavar="APP")
@click.option(
    "--instance",
    "instances",
    multiple=True,
    metavar="N|N,N|all",
    shell_complete=one_of("all"),
    help="Instance; repeatable.  [default: all]",
)
@click.option(
    "--type",
    "process_type",
    default="web",
    metavar="TYPE",
    shell_complete=one_of("web", "worker"),
    help="Process type.  [default: web]",
)
@click.option("--follow", is_flag=True, help="Go on with instances that restart, move or are added.")
@capture_options
def cf(app: str, instances: Tuple[str, ...], process_type: str, follow: bool, **given: Any) -> None:
    """Capture a Cloud Foundry app, by name in the targeted space or by GUID, with your cf login.

    The pcap api is that of --api or PCAP_API, else the pcap link of Cloud Controller, else
    the host of Cloud Controller with pcap. instead of api.  The authority of --ca counts
    for Cloud Controller and UAA too, besides the system's; --insecure counts for them too.
    """
    # ssl and HTTP take most of the start-up: --help does without.
    from pcapd.ctl.cf import Asked, prepare
    from pcapd.ctl.reportfile import reported

    instance_numbers = parse_instances(instances)
    trust = _trust(given, Trust.ALSO_GIVEN)
    asked = Asked(app, instance_numbers, process_type, follow, given["api"], given["ca"], trust)
    options = _capture_options(app, given)
    cli = click.get_current_context().obj
    with reported(options):
        parent = cli.parent() if cli is not None else None
        access, wanted = prepare(asked, options, cli)
        status = _capture(access, options, wanted, parent)
    raise SystemExit(status)


@cli.command(
    epilog="\b\nExamples:\n"
    "  pcapctl bosh -e prod -d cf --group router --duration 30s\n"
    "  pcapctl bosh -d cf --group router --instance 0 --filter 'tcp port 80' --output router.pcapng\n"
    "  pcapctl bosh -d cf --group router --group diego-cell --yes --duration 1m\n"
    "  pcapctl bosh -d mysql --group mysql --output - | wireshark -k -i -\n\n"
    "\b\nLog in first: bosh -e ENV log-in, or set BOSH_CLIENT and BOSH_CLIENT_SECRET.\n"
    "You need to be an admin of the deployment, as for bosh ssh.\n\n" + EXIT_STATUS
)
@click.option(
    "--deployment", "-d", envvar="BOSH_DEPLOYMENT", metavar="D", help="Deployment (or BOSH_DEPLOYMENT)."
)
@click.option(
    "--group", "-g", "groups", multiple=True, required=True, metavar="G", help="Instance group; repeatable."
)
@click.option(
    "--instance",
    "instances",
    multiple=True,
    metavar="ID",
    help="Id or index of an instance, or GROUP/ID; repeatable.  [default: all]",
)
@click.option(
    "--environment",
    "-e",
    metavar="ENV",
    shell_complete=environments,
    help="Director: alias or URL (or BOSH_ENVIRONMENT).",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask, however many VMs there are.")
@capture_options
def bosh(
    deployment: Optional[str],
    groups: Tuple[str, ...],
    instances: Tuple[str, ...],
    environment: Optional[str],
    yes: bool,
    **given: Any,
) -> None:
    """Capture on VMs of a BOSH deployment, with your BOSH login.

    Shows the VMs first, and asks when there are more than five.  The director, its authority
    and the login are the BOSH CLI's: those of ~/.bosh/config (or BOSH_CONFIG), BOSH_ENVIRONMENT,
    BOSH_CA_CERT, BOSH_CLIENT and BOSH_CLIENT_SECRET.  --insecure counts for the director and UAA too.
    """
    # ssl and HTTP take most of the start-up: --help does without.
    from pcapd.ctl.bosh import Asked, prepare
    from pcapd.ctl.reportfile import reported

    if not deployment:
        raise UsageProblem("no deployment", "set BOSH_DEPLOYMENT, or name it with --deployment")
    trust = _trust(given, Trust.GIVEN)
    asked = Asked(deployment, groups, instances, environment, given["api"], given["ca"], yes, trust)
    options = _capture_options(deployment, given)
    with reported(options):
        access, wanted = prepare(asked, options)
        status = _capture(access, options, wanted)
    raise SystemExit(status)


@cli.command(
    epilog="\b\nExamples:\n"
    "  pcapctl hosts web-0 web-1 --duration 30s --output web.pcapng\n"
    "  pcapctl hosts web-0 --device eth0 --device lo --filter 'tcp port 80'\n"
    "  pcapctl hosts web-0 web-1 --split-by instance --rotate-size 100MB\n"
    "  pcapctl hosts web-0 --output - | wireshark -k -i -\n"
    "  pcapctl hosts web-0 --serve 127.0.0.1:57012              and: tshark -i TCP@127.0.0.1:57012\n\n"
    + EXIT_STATUS
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@capture_options
@token_file_option
def hosts(names: Tuple[str, ...], token_file: Optional[Path], **given: Any) -> None:
    """Capture targets that the api's configuration names."""
    from pcapd.ctl.reportfile import reported

    options = _capture_options(names[0], given)
    with reported(options):
        access = _access(given, read_token(token_file))
        status = _capture(access, options, Wanted(names))
    raise SystemExit(status)


@cli.command()
@access_options
def status(**given: Any) -> None:
    """Tell what the api can reach."""
    from pcapd.ctl.status import as_text, ask

    body = ask(_access(given, None))
    healthy, lines = as_text(body)
    if given["json"]:
        print(json_module.dumps(body))
    else:
        print("\n".join(lines))
    raise SystemExit(0 if healthy else _FAILED)


@cli.command(
    epilog="\b\nExamples:\n"
    "  pcapctl hosts web-0 web-1 --packet-ids --output both.pcapng --duration 30s\n"
    "  pcapctl flows both.pcapng\n"
    "    192.0.2.1:40000 > 192.0.2.2:80 TCP: web-0:eth0 12 -> web-1:eth0 11, "
    "delay 0.110/0.140/0.300 ms, 1 lost\n"
    "  pcapctl flows both_*.pcapng --json | jq 'select(.lost > 0)'\n"
)
@click.argument("names", nargs=-1, required=True, metavar="FILE...", shell_complete=files)
@click.option("--json", is_flag=True, help="JSON lines for scripts instead of text.")
def flows(names: Tuple[str, ...], json: bool) -> None:
    """Tell per flow where its packets were seen, the delay between, and what was lost.

    FILE is pcapng with several interfaces, best with --packet-ids; several files are
    read as one capture, and - is standard input.  Each direction is a flow of its own.
    The delay is the least, the median and the greatest, by the clocks of both
    machines: what they differ is in it.
    """
    from pcapd.ctl.flows import as_event, as_line, read

    found = read(names)
    for hop in found.hops():
        print(json_module.dumps(as_event(hop)) if json else as_line(hop))
    for count, words in (
        (found.others, "packets are not IP"),
        (found.beyond, "packets are of more flows than fit; use a narrower filter"),
        (found.forgotten, "packets were too many at once: their other ends may be counted as lost"),
    ):
        if count:
            print(f"pcapctl: {count} {words}", file=sys.stderr)


@cli.command(
    epilog="\b\nExamples:\n"
    "  pcapctl hosts web-0 web-1 --output both.pcapng --duration 30s\n"
    "  pcapctl explain both.pcapng\n"
    "  pcapctl explain client.pcap server.pcap          tcpdump's files of both ends\n"
    "  pcapctl explain both.pcapng --html both.html\n"
    "  pcapctl explain both.pcapng --json | jq '.findings[] | .kind, .summary'\n"
)
@click.argument("names", nargs=-1, required=True, metavar="FILE...", shell_complete=files)
@click.option("--json", is_flag=True, help="One JSON object for scripts instead of text.")
@click.option("--html", "page", metavar="FILE", help="Write a page with drawings, which needs no network.")
@click.option("--all", "everything", is_flag=True, help="All findings, not only a screenful.")
def explain(names: Tuple[str, ...], json: bool, page: Optional[str], everything: bool) -> None:
    """Say what went wrong in a capture: who refused, lost, closed or waited, and where.

    FILE is pcapng or pcap of any program; of several files each was captured elsewhere.
    Packets that were seen at several places are recognised, the clocks of these places
    are compared, and what the capture lost itself is not blamed on the network.
    What each kind of finding means is in docs/findings.rst.
    """
    from pcapd.analysis.report import as_dict
    from pcapd.ctl.explain import as_lines, write_page
    from pcapd.ctl.explain import explain as read

    found = read(names) if page is None else write_page(names, page)
    print(json_module.dumps(as_dict(found)) if json else "\n".join(as_lines(found, everything=everything)))


@cli.command(
    epilog="\b\nExamples:\n"
    "  bash  echo 'eval \"$(pcapctl completion bash)\"' >> ~/.bashrc\n"
    "  zsh   echo 'eval \"$(pcapctl completion zsh)\"' >> ~/.zshrc      below compinit\n"
    "  fish  pcapctl completion fish > ~/.config/fish/completions/pcapctl.fish\n\n"
    "Then start a new shell.  Packages put what this prints into\n"
    "share/bash-completion/completions/pcapctl, share/zsh/site-functions/_pcapctl and\n"
    "share/fish/vendor_completions.d/pcapctl.fish.\n"
)
@click.argument("shell", type=click.Choice(SHELLS), metavar="bash|zsh|fish")
def completion(shell: str) -> None:
    """Print the script that completes pcapctl's command line in a shell.

    It completes commands, options, files, and values that this machine knows, such as
    the directors of ~/.bosh/config; it never asks the network.  pcapctl must be in PATH
    for zsh and fish; bash needs version 4.4 or later.
    """
    print(script(shell, cli), end="")


@cli.command(
    epilog="\b\nExamples:\n"
    "  pcapctl man | man -l -\n"
    "  pcapctl man > ~/.local/share/man/man1/pcapctl.1      then: man pcapctl\n"
)
def man() -> None:
    """Print the man page, pcapctl(1), in the language of man."""
    print(page(cli), end="")


@cli.command(
    epilog="\b\nExamples:\n"
    "  pcapctl extcap --install\n"
    "  tshark -D                                        lists pcapctl-cf, pcapctl-bosh, pcapctl-hosts\n"
    "  tshark -i pcapctl-cf -o extcap.pcapctl_cf.app:myapp -f 'tcp port 8080' -c 10\n"
    "  tshark -i pcapctl-hosts -o extcap.pcapctl_hosts.targets:web-0,web-1 -w web.pcapng\n"
    "  pcapctl extcap --uninstall\n\n"
    "In Wireshark, press F5 (Refresh Interfaces) after it was installed; the wheel beside\n"
    "an interface opens its options."
)
@click.option("--install", is_flag=True, help="Put a launcher where Wireshark looks.")
@click.option("--uninstall", is_flag=True, help="Remove it.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="D",
    help="Where.  [default: what tshark -G folders tells, else ~/.config/wireshark/extcap]",
)
def extcap(install: bool, uninstall: bool, directory: Optional[Path]) -> None:
    """Be capture interfaces of Wireshark: Cloud Foundry app, BOSH VMs, pcapd hosts.

    Wireshark and tshark start pcapctl with options of their own (--extcap-interfaces,
    --capture and others), also when it lies in their extcap directory as a copy or a link.
    """
    from pcapd.ctl.extcap import install as installing

    if install == uninstall:
        raise UsageProblem("say what to do: --install or --uninstall", "see: pcapctl extcap --help")
    if install:
        path = installing.install(directory)
        print(f"installed {path}; in Wireshark, press F5 to see the interfaces")
        return
    removed = installing.uninstall(directory)
    print("\n".join(f"removed {path}" for path in removed) or "there was nothing to remove")


def _access(given: Any, token: Optional[str]) -> Access:
    if not given["api"]:
        raise UsageProblem("no api", "set PCAP_API, or name its URL with --api")
    return Access(given["api"], token, given["ca"], _trust(given, Trust.GIVEN))


def _trust(given: Any, checked: Trust) -> Trust:
    """Whom to believe: as `checked` says, or anybody, which is said each time."""
    if not given["insecure"]:
        return checked
    if given["ca"]:
        raise UsageProblem("--insecure and --ca exclude each other", "with --ca certificates are checked")
    text = (
        "certificates are not checked (--insecure): somebody on the way could take over your login "
        "and read the packets"
    )
    # Not even --quiet hides it.
    line = json_module.dumps({"event": "warning", "message": text}) if given["json"] else f"warning: {text}"
    print(line, file=sys.stderr, flush=True)
    return Trust.ANYBODY


def _capture_options(name: str, given: Any) -> CaptureOptions:
    now = datetime.datetime.now(datetime.timezone.utc)
    files = FileOptions.of(given)
    nothing_given = NOWHERE if files.elsewhere else default_output(name, given["form"], now)
    output = given["output"] or nothing_given
    return CaptureOptions(
        output=output,
        form=choose_form(given["form"], output),
        filter=given["filter"],
        interfaces=given["devices"],
        snaplen=given["snaplen"],
        headers_only=given["headers_only"],
        count=given["count"],
        duration=given["duration"],
        max_bytes=given["max_bytes"],
        ordered=given["order"],
        force=given["force"],
        report=given["report"],
        quiet=given["quiet"],
        verbose=given["verbose"],
        json=given["json"],
        files=files,
    )


def _capture(access: Access, options: CaptureOptions, wanted: Wanted, parent: Any = None) -> int:
    # ssl and wsproto take most of the start-up: --help does without.
    from pcapd.ctl.run import run

    return run(access, options, wanted, parent=parent)


def main(
    command: click.Command = cli,
    arguments: Optional[Sequence[str]] = None,
    name: str = "pcapctl",
    obj: Any = None,
) -> None:
    """Run a command; ends by `SystemExit`.

    Args:
        command: One of ours.
        arguments: Those of this process when None.
        name: What the user called.
        obj: The cf CLI that called us as its plugin.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if command is cli and is_call(given):
            from pcapd.ctl.extcap.command import answer

            sys.exit(answer(given))
        command.main(arguments, name, standalone_mode=False, obj=obj)
    except click.ClickException as error:
        error.show()
        _failed(error.format_message(), _USAGE)
    except (click.Abort, KeyboardInterrupt):
        _failed("interrupted", _FAILED, text="pcapctl: interrupted")
    except UsageProblem as error:
        _failed(str(error), _USAGE, text=f"pcapctl: {escape(str(error))}")
    except PcapdError as error:
        _failed(str(error), _FAILED, text=f"pcapctl: {escape(str(error))}")


def _failed(error: str, status: int, text: str = "") -> NoReturn:
    """Say that nothing was captured, to people and, where a script listens, to it."""
    if text:
        say(text, sys.stderr)
    arguments = sys.argv[1:]
    if "--json" in arguments and arguments[0] not in ("status", "flows", "explain"):
        packets_to_stdout = {"-", "-o-", "--output=-", "--file=-"} & set(arguments)
        from pcapd.ctl.reportfile import nothing

        facts = {"event": "end", **nothing(error, status)}
        say(json_module.dumps(facts), sys.stderr if packets_to_stdout else sys.stdout)
    sys.exit(status)
