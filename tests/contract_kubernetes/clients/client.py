"""One command by Python's client of Kubernetes; the table of `commands.txt` runs it past hoop and
through it. What comes back is printed as JSON with its keys in order; a refusal is an exit status of 1.
`client.mjs` knows the same commands.
"""

import argparse
import json
import sys

from kubernetes import client, config, dynamic, stream, watch
from kubernetes.client.exceptions import ApiException


def parsed():
    parser = argparse.ArgumentParser()
    parser.add_argument("--namespace", required=True)
    parser.add_argument("what", choices=sorted(COMMANDS))
    parser.add_argument("words", nargs=argparse.REMAINDER)
    return parser.parse_args()


def show(value):
    print(json.dumps(value, sort_keys=True, indent=1))


def plain(answer):
    return client.ApiClient().sanitize_for_serialization(answer)


def body(name, pairs):
    data = dict(pair.split("=", 1) for pair in pairs)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def create(api, namespace, name, *pairs):
    show(plain(api.create_namespaced_config_map(namespace, body(name, pairs))))


def get(api, namespace, name):
    show(plain(api.read_namespaced_config_map(name, namespace)))


def listed(api, namespace, *options):
    """By pages of one, so that there is a `continue`."""
    names, following = [], None
    while following != "":
        page = api.list_namespaced_config_map(namespace, limit=1, _continue=following)
        names += [item.metadata.name for item in page.items]
        following = page.metadata._continue or ""
    show(names)


def tabled(api, namespace):
    whole = plain(api.list_namespaced_pod(namespace))
    show([[item["metadata"]["name"], item["status"]["phase"]] for item in whole["items"]])


KINDS = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


def patch(api, namespace, kind, name, text):
    options = {"field_manager": "clients", "force": True} if kind == "apply" else {}
    wanted = json.loads(text)
    changed = api.patch_namespaced_config_map(
        name, namespace, wanted, _content_type=KINDS[kind], **options
    )
    show(plain(changed))


def replace(api, namespace, name, *pairs):
    show(plain(api.replace_namespaced_config_map(name, namespace, body(name, pairs))))


def delete(api, namespace, name):
    show(plain(api.delete_namespaced_config_map(name, namespace)))


def watched(api, namespace, name):
    """What becomes of an object that is made, changed and deleted meanwhile."""
    since = api.list_namespaced_config_map(namespace).metadata.resource_version
    api.create_namespaced_config_map(namespace, body(name, ["turn=1"]))
    for turn in ("2", "3"):
        api.patch_namespaced_config_map(name, namespace, {"data": {"turn": turn}})
    api.delete_namespaced_config_map(name, namespace)
    watching, seen = watch.Watch(), []
    events = watching.stream(
        api.list_namespaced_config_map,
        namespace,
        resource_version=since,
        field_selector=f"metadata.name={name}",
        timeout_seconds=60,
    )
    for event in events:
        seen.append([event["type"], event["raw_object"]["data"]])
        if event["type"] == "DELETED":
            watching.stop()
    show(seen)


def executed(api, namespace, pod, *command):
    running = stream.stream(
        api.connect_get_namespaced_pod_exec,
        pod,
        namespace,
        command=list(command),
        stdin=True,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    typed = sys.stdin.read()
    if typed:
        running.write_stdin(typed)
    seen = {"out": "", "err": ""}
    while running.is_open():
        running.update(timeout=1)
        if running.peek_stdout():
            seen["out"] += running.read_stdout()
        if running.peek_stderr():
            seen["err"] += running.read_stderr()
        if typed and seen["out"].endswith(typed):
            # Its protocol has a word for the end of input, where the server speaks v5.
            running.close_channel(0)
            typed = ""
    seen["status"] = running.returncode
    show(seen)


def simply(api, namespace, pod, *command):
    """The way of the documentation: all at once, as one text."""
    show(
        stream.stream(
            api.connect_get_namespaced_pod_exec,
            pod,
            namespace,
            command=list(command),
            stdin=False,
            stdout=True,
            stderr=False,
            tty=False,
        )
    )


def logs(api, namespace, pod):
    print(api.read_namespaced_pod_log(pod, namespace, tail_lines=5), end="")


def followed(api, namespace, pod):
    watching = watch.Watch()
    for line in watching.stream(api.read_namespaced_pod_log, pod, namespace):
        print(line)
        watching.stop()


def secret(api, namespace, name):
    print(api.read_namespaced_secret(name, namespace).data["password"])


def discovered(api, namespace, name):
    """The dynamic client, which asks the server what there is and applies by itself."""
    resources = dynamic.DynamicClient(api.api_client).resources
    maps = resources.get(api_version="v1", kind="ConfigMap")
    deployments = resources.get(api_version="apps/v1", kind="Deployment")
    maps.server_side_apply(body(name, ["by=apply"]), namespace=namespace, field_manager="dynamic")
    got = maps.get(name=name, namespace=namespace).to_dict()
    maps.delete(name=name, namespace=namespace)
    show([got["data"], deployments.get(namespace=namespace).to_dict()["kind"]])


COMMANDS = {
    "create": create,
    "get": get,
    "list": listed,
    "pods": tabled,
    "patch": patch,
    "replace": replace,
    "delete": delete,
    "watch": watched,
    "exec": executed,
    "simply": simply,
    "logs": logs,
    "follow": followed,
    "secret": secret,
    "discover": discovered,
}


def main():
    asked = parsed()
    config.load_kube_config()
    try:
        COMMANDS[asked.what](client.CoreV1Api(), asked.namespace, *asked.words)
    except ApiException as error:
        show({"status": error.status, "reason": error.reason, "body": said(error.body)})
        sys.exit(1)


def said(text):
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return str(text)


main()
