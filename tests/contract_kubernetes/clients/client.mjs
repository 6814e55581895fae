// One command by JavaScript's client of Kubernetes; the table of `commands.txt` runs it past hoop and
// through it. What comes back is printed as JSON with its keys in order; a refusal is an exit status
// of 1. `client.py` knows the same commands.

import { Writable } from "node:stream";
import {
  ApiException,
  CoreV1Api,
  Exec,
  KubeConfig,
  KubernetesObjectApi,
  Log,
  PatchStrategy,
  Watch,
  setHeaderOptions,
} from "@kubernetes/client-node";

const config = new KubeConfig();
config.loadFromDefault();
const api = config.makeApiClient(CoreV1Api);
const [option, what, ...words] = process.argv.slice(2);
const namespace = option.replace("--namespace=", "");

const ordered = (value) => {
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map(ordered);
  if (value === null || typeof value !== "object") return value;
  const keys = Object.keys(value).sort();
  return Object.fromEntries(keys.map((key) => [key, ordered(value[key])]));
};
const show = (value) => console.log(JSON.stringify(ordered(value), null, 1));

const body = (name, pairs) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, namespace },
  data: Object.fromEntries(pairs.map((pair) => pair.split("="))),
});

// Everything that is written to it.
class Collected extends Writable {
  text = "";
  _write(piece, _encoding, done) {
    this.text += piece;
    this.emit("piece");
    done();
  }
}

const KINDS = {
  merge: PatchStrategy.MergePatch,
  strategic: PatchStrategy.StrategicMergePatch,
  json: PatchStrategy.JsonPatch,
  apply: PatchStrategy.ServerSideApply,
};

const COMMANDS = {
  async create(name, ...pairs) {
    show(await api.createNamespacedConfigMap({ namespace, body: body(name, pairs) }));
  },

  async get(name) {
    show(await api.readNamespacedConfigMap({ name, namespace }));
  },

  // By pages of one, so that there is a `continue`.
  async list() {
    const names = [];
    let following;
    do {
      const page = await api.listNamespacedConfigMap({ namespace, limit: 1, _continue: following });
      names.push(...page.items.map((item) => item.metadata.name));
      following = page.metadata._continue;
    } while (following);
    show(names);
  },

  async pods() {
    const whole = await api.listNamespacedPod({ namespace });
    show(whole.items.map((item) => [item.metadata.name, item.status.phase]));
  },

  async patch(kind, name, text) {
    const options = kind === "apply" ? { fieldManager: "clients", force: true } : {};
    const asked = { name, namespace, body: JSON.parse(text), ...options };
    show(await api.patchNamespacedConfigMap(asked, setHeaderOptions("Content-Type", KINDS[kind])));
  },

  async replace(name, ...pairs) {
    show(await api.replaceNamespacedConfigMap({ name, namespace, body: body(name, pairs) }));
  },

  async delete(name) {
    show(await api.deleteNamespacedConfigMap({ name, namespace }));
  },

  // What becomes of an object that is made, changed and deleted meanwhile.
  async watch(name) {
    const since = (await api.listNamespacedConfigMap({ namespace })).metadata.resourceVersion;
    const merge = setHeaderOptions("Content-Type", KINDS.merge);
    await api.createNamespacedConfigMap({ namespace, body: body(name, ["turn=1"]) });
    for (const turn of ["2", "3"]) {
      await api.patchNamespacedConfigMap({ name, namespace, body: { data: { turn } } }, merge);
    }
    await api.deleteNamespacedConfigMap({ name, namespace });
    const options = { resourceVersion: since, fieldSelector: `metadata.name=${name}`, timeoutSeconds: 60 };
    const seen = [];
    await new Promise((over, failed) => {
      const path = `/api/v1/namespaces/${namespace}/configmaps`;
      const heard = (type, object) => {
        seen.push([type, object.data]);
        if (type === "DELETED") over();
      };
      new Watch(config).watch(path, options, heard, (error) => failed(error ?? new Error("it ended")));
    });
    show(seen);
  },

  async exec(pod, ...command) {
    const [out, err] = [new Collected(), new Collected()];
    const status = await new Promise((over, failed) => {
      const stdin = process.stdin.isTTY ? null : process.stdin;
      new Exec(config).exec(namespace, pod, "", command, out, err, stdin, false, over).catch(failed);
    });
    // Its own words for how a command ended.
    const cause = (status.details?.causes ?? []).find((cause) => cause.reason === "ExitCode");
    show({ out: out.text, err: err.text, status: Number(cause?.message ?? 0), said: status.status });
  },

  async logs(pod) {
    process.stdout.write(await api.readNamespacedPodLog({ name: pod, namespace, tailLines: 5 }));
  },

  async follow(pod) {
    const out = new Collected();
    const first = new Promise((over) => out.once("piece", over));
    await new Log(config).log(namespace, pod, "", out, { follow: true });
    await first;
    process.stdout.write(out.text);
  },

  async secret(name) {
    console.log((await api.readNamespacedSecret({ name, namespace })).data.password);
  },

  // The client of any object, which asks the server what there is.
  async discover(name) {
    const objects = KubernetesObjectApi.makeApiClient(config);
    await objects.create(body(name, ["by=create"]));
    const changed = { ...body(name, ["by=patch"]) };
    await objects.patch(changed, undefined, undefined, undefined, undefined, KINDS.merge);
    const got = await objects.read({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace } });
    await objects.delete(got);
    const deployments = await objects.list("apps/v1", "Deployment", namespace);
    show([got.data, deployments.kind]);
  },
};

try {
  await COMMANDS[what](...words);
} catch (error) {
  if (!(error instanceof ApiException)) throw error;
  const said = (text) => {
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  };
  show({ status: error.code, body: said(error.body) });
  process.exit(1);
}
process.exit(0);
