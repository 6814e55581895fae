"""Makes wire/kubernetes/protobuf/fields.txt anew from the Go modules of Kubernetes.

    python3 tests/kubernetes/fields.py v0.37.2 > hoop-userspace/src/wire/kubernetes/protobuf/fields.txt

The modules (k8s.io/api, apimachinery, apiextensions-apiserver, kube-aggregator) must be in Go's module
cache: `go mod download`. Message and field numbers are those of generated.proto; names are those that the
Go structs' tags give JSON.
"""

import os
import re
import subprocess
import sys

HEAD = """\
# Messages of the protobuf form of Kubernetes objects: what the k8s.io modules publish as generated.proto,
# with the names that JSON has (the Go structs' tags). Kubernetes 1.37. Made by tests/kubernetes/fields.py.
#
# @package apiVersion
# package.Message field:number:type …
#   ^ for a name: its fields stand in the JSON object itself
#   types: s string, y bytes, b bool, i integer, d double, .Message of the same package, package.Message;
#   [] before one repeats it, {} makes it a map from strings; %raw %qty %ios %time %dur %list are those
#   whose JSON is no object: RawExtension and its like, Quantity, IntOrString, Time, Duration, lists in a message.
"""

SCALARS = {
    "string": "s", "bytes": "y", "bool": "b", "int32": "i", "int64": "i", "uint32": "i", "uint64": "i", "double": "d",
}

# Messages whose JSON is no object.
SPECIAL = {
    "raw.RawExtension": "%raw", "meta.FieldsV1": "%raw", "crd.JSON": "%raw", "qty.Quantity": "%qty",
    "int.IntOrString": "%ios", "meta.Time": "%time", "meta.MicroTime": "%time", "meta.Duration": "%dur",
    "meta.Verbs": "%list", "authentication.ExtraValue": "%list", "authorization.ExtraValue": "%list",
    "certificates.ExtraValue": "%list",
}

# Nothing refers to them.
UNUSED = {"qty.QuantityValue", "meta.Timestamp", "raw.Unknown", "raw.TypeMeta"}


def packages(version):
    """Package to its folder in the module cache, and its apiVersion if it has kinds."""
    found = {
        "raw": (f"apimachinery@{version}/pkg/runtime", None),
        "qty": (f"apimachinery@{version}/pkg/api/resource", None),
        "int": (f"apimachinery@{version}/pkg/util/intstr", None),
        "meta": (f"apimachinery@{version}/pkg/apis/meta/v1", "v1"),
        "core": (f"api@{version}/core/v1", "v1"),
    }
    groups = [
        ("apps", "v1", "apps"), ("batch", "v1", "batch"), ("rbac", "v1", "rbac.authorization.k8s.io"),
        ("policy", "v1", "policy"), ("networking", "v1", "networking.k8s.io"), ("autoscaling", "v1", "autoscaling"),
        ("autoscaling", "v2", "autoscaling"), ("events", "v1", "events.k8s.io"),
        ("coordination", "v1", "coordination.k8s.io"), ("discovery", "v1", "discovery.k8s.io"),
        ("storage", "v1", "storage.k8s.io"), ("scheduling", "v1", "scheduling.k8s.io"),
        # Jobs have a field of it.
        ("scheduling", "v1alpha3", None), ("admissionregistration", "v1", "admissionregistration.k8s.io"),
        ("authentication", "v1", "authentication.k8s.io"), ("authorization", "v1", "authorization.k8s.io"),
        ("certificates", "v1", "certificates.k8s.io"), ("node", "v1", "node.k8s.io"),
        ("flowcontrol", "v1", "flowcontrol.apiserver.k8s.io"),
    ]
    for folder, of, group in groups:
        name = folder if of == "v1" else folder + of
        found[name] = (f"api@{version}/{folder}/{of}", group and f"{group}/{of}")
    extensions = f"apiextensions-apiserver@{version}/pkg/apis/apiextensions/v1"
    found["crd"] = (extensions, "apiextensions.k8s.io/v1")
    found["apireg"] = (f"kube-aggregator@{version}/pkg/apis/apiregistration/v1", "apiregistration.k8s.io/v1")
    return found


def json_names(folder):
    """(struct, field number) to its name in JSON, and whether its fields stand in the object itself."""
    names = {}
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".go") or file.endswith("_test.go") or file.startswith(("generated", "zz_")):
            continue
        with open(os.path.join(folder, file), encoding="utf-8") as source:
            text = source.read()
        for struct in re.finditer(r"^type (\w+) struct \{\n(.*?)^\}", text, re.M | re.S):
            for line in struct.group(2).split("\n"):
                tag = re.match(r'\s*([\w.*\[\] ]+?)\s+`json:"([^"]*)"[^`]*?protobuf:"\w+,(\d+)', line)
                if tag:
                    name = tag.group(2).split(",")[0]
                    embedded = len(tag.group(1).split()) == 1
                    names[struct.group(1), int(tag.group(3))] = (name, embedded and not name)
    return names


def main(version):
    cache = subprocess.run(["go", "env", "GOMODCACHE"], check=True, capture_output=True, text=True).stdout.strip()
    of = {name: (os.path.join(cache, "k8s.io", folder), api) for name, (folder, api) in packages(version).items()}
    protos, by_package = {}, {}
    for name, (folder, _) in of.items():
        with open(os.path.join(folder, "generated.proto"), encoding="utf-8") as source:
            text = re.sub(r"/\*.*?\*/", "", re.sub(r"//.*", "", source.read()), flags=re.S)
        protos[name] = text
        by_package[re.search(r"^package ([\w.]+);", text, re.M).group(1)] = name

    def kind(package, written):
        if written in SCALARS:
            return SCALARS[written]
        other, _, message = written.lstrip(".").rpartition(".")
        full = f"{by_package[other] if other else package}.{message}"
        return SPECIAL.get(full, full.removeprefix(package) if full.startswith(package + ".") else full)

    print(HEAD, end="")
    for name, (_, api) in of.items():
        if api:
            print(f"@{name} {api}")
    for package, (folder, _) in of.items():
        names = json_names(folder)
        for message in re.finditer(r"^message (\w+) \{\n(.*?)^\}", protos[package], re.M | re.S):
            full = f"{package}.{message.group(1)}"
            if full in SPECIAL or full in UNUSED:
                continue
            fields = []
            for line in filter(None, map(str.strip, message.group(2).split("\n"))):
                if line.startswith("reserved"):
                    continue
                form = r"(optional|repeated|required)?\s*(map<string, ([\w.]+)>|[\w.]+) (\w+) = (\d+)(?: \[[^\]]*\])?;"
                field = re.match(form, line)
                if not field:
                    sys.exit(f"{full}: cannot read {line!r}")
                label, written, value, own, number = field.groups()
                called, inlined = names.get((message.group(1), int(number)), (own, False))
                if called == "-":
                    continue
                if value:
                    typed = "{}" + kind(package, value)
                else:
                    typed = ("[]" if label == "repeated" else "") + kind(package, written)
                fields.append(f"{'^' if inlined else called or own}:{number}:{typed}")
            print(full, *fields)


if __name__ == "__main__":
    main(sys.argv[1])
