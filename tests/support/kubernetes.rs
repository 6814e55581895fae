//! A real Kubernetes API server, its store, its controllers, and a node of our own that runs commands.
//!
//! `cargo xtask setup --kubernetes` builds the programs. Everything listens on addresses of the
//! world, and ends with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::certificates::{Authority, Certificate};
use crate::place::Place;
use crate::ran::{self, Ran};
use crate::{PATIENCE, files};

pub const HOST: &str = "kubernetes.prod.internal";
pub const PORT: u16 = 6443;
/// The node that all pods are bound to.
pub const NODE: &str = "node-1";
/// The last number of the API server's address.
pub const ADDRESS: u8 = 40;
const STORE: u8 = 41;
const KUBELET: u8 = 42;
const KUBELET_PORT: u16 = 10250;

/// The feature by which a node says that it takes WebSockets; without it the API server translates
/// them to SPDY for it.
const WEBSOCKETS: &str = "ExtendWebSocketsToKubelet";

/// The cluster, and how it is reached past hoop.
pub struct Kubernetes {
    folder: PathBuf,
    authority: Authority,
}

/// A program that `cargo xtask setup --kubernetes` built: `kubectl`, `kubectl-1.20`, `helm`,
/// `requestinfo` and the servers.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = files::target()?.join("kubernetes").join(name);
    if path.exists() {
        return Ok(path);
    }
    bail!(
        "{} is missing: `cargo xtask setup --kubernetes` builds it",
        path.display()
    )
}

/// A command of a client: of `kubectl`, `kubectl-1.20` and `helm`, or of a library that a script
/// speaks through, `python` and `javascript`.
pub fn client(name: &str) -> Result<(PathBuf, Option<PathBuf>)> {
    let script = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("contract_kubernetes/clients");
        Some(folder.join(name))
    };
    Ok(match name {
        "python" => (
            program("python-clients")?.join("bin/python"),
            script("client.py"),
        ),
        "javascript" => ("node".into(), script("client.mjs")),
        name => (program(name)?, None),
    })
}

impl Kubernetes {
    /// Starts a cluster in that place; it is ready when this returns, after some seconds.
    pub fn start(place: &Place) -> Result<Self> {
        let folder = place.path("kubernetes");
        std::fs::create_dir_all(folder.join("pods"))?;
        let authority = Authority::make(&folder.join("certificates"))?;
        let cluster = Self { folder, authority };
        let mut servers = vec![cluster.store(place)?];
        servers.push(cluster.server(place)?);
        cluster.write_kubeconfigs()?;
        cluster.wait(place, &mut servers, &["get", "--raw", "/readyz"])?;
        servers.push(cluster.controllers(place)?);
        servers.push(cluster.node(place)?);
        // The server makes this namespace by itself, soon after it is ready.
        cluster.wait(place, &mut servers, &["get", "namespace", "default"])?;
        cluster.add_node(place)?;
        let ready = ["wait", "--for=condition=Ready", "--timeout=0", "node", NODE];
        cluster.wait(place, &mut servers, &ready)?;
        Ok(cluster)
    }

    /// The API server's address as kubeconfigs have it.
    pub fn url() -> String {
        format!("https://{HOST}:{PORT}")
    }

    /// Who signed the API server's certificate, as PEM.
    pub fn authority(&self) -> PathBuf {
        self.authority.pem()
    }

    /// A client's certificate that the API server takes for that subject, `/O=group/CN=name`.
    pub fn client(&self, file: &str, subject: &str) -> Result<Certificate> {
        self.authority.sign_client(file, subject)
    }

    /// The home of whoever runs an agent's clients, with a kubeconfig as kubectl writes it and a
    /// token that the cluster does not know.
    pub fn agent_home(&self) -> Result<PathBuf> {
        let home = self.path("agent");
        let config = home.join(".kube/config");
        if !config.exists() {
            use base64::Engine;
            let authority = base64::engine::general_purpose::STANDARD
                .encode(files::read(&self.authority.pem())?);
            let text = format!(
                "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {authority}\n    \
                 server: {}\n  name: prod\ncontexts:\n- context:\n    cluster: prod\n    user: me\n  \
                 name: prod\ncurrent-context: prod\nkind: Config\nusers:\n- name: me\n  user:\n    \
                 token: nobody-knows-it\n",
                Self::url()
            );
            files::write(&config, text)?;
        }
        Ok(home)
    }

    /// hoop's own certificate, and what its agents may do in the cluster.
    pub fn let_hoop_in(&self, place: &Place) -> Result<()> {
        self.client("hoop", "/O=system:masters/CN=hoop")?;
        let binding = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\n\
            metadata: {name: agents}\n\
            roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\n\
            subjects:\n\
            - {apiGroup: rbac.authorization.k8s.io, kind: User, name: \"hoop:etl-bot\"}\n\
            - {apiGroup: rbac.authorization.k8s.io, kind: User, name: \"hoop:billing-bot\"}\n";
        self.apply(place, binding)
    }

    /// Of somebody who may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("admin.kubeconfig")
    }

    /// A [`client`], past hoop and as somebody who may do everything. Nothing of whoever runs the
    /// tests counts.
    pub fn command(&self, place: &Place, client: &str) -> Result<Command> {
        let (program, script) = self::client(client)?;
        let mut command = place.command("outside", None, program)?;
        command
            .args(script)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.path("home"));
        Ok(command)
    }

    /// The current kubectl with those arguments, to its end.
    pub fn kubectl(&self, place: &Place, arguments: &[&str], input: &str) -> Result<Ran> {
        let mut kubectl = self.command(place, "kubectl")?;
        ran::run(kubectl.args(arguments), input, PATIENCE)
    }

    /// Makes objects from YAML or JSON.
    pub fn apply(&self, place: &Place, objects: &str) -> Result<()> {
        let apply = ["apply", "-f", "-"];
        self.kubectl(place, &apply, objects)?.ok()?;
        Ok(())
    }

    /// Whether the API server passes WebSockets on to the node, or translates them to SPDY.
    pub fn pass_websockets(&self, place: &Place, pass: bool) -> Result<()> {
        let features = if pass {
            format!("[\"{WEBSOCKETS}\"]")
        } else {
            "[]".to_owned()
        };
        let patch = format!("{{\"status\":{{\"declaredFeatures\":{features}}}}}");
        let patch = ["patch", "node", NODE, "--subresource=status", "-p", &patch];
        self.kubectl(place, &patch, "")?.ok()?;
        Ok(())
    }

    /// The folder that the containers of a pod see as `/tmp`.
    pub fn pod(&self, namespace: &str, name: &str) -> PathBuf {
        self.path("pods").join(namespace).join(name)
    }

    /// The API server's own audit log, one JSON object a line.
    pub fn audit(&self) -> Result<String> {
        files::read(&self.path("audit.log"))
    }

    /// What a server wrote about itself: `kube-apiserver`, `etcd`, `node`.
    pub fn log(&self, server: &str) -> Result<String> {
        files::read(&self.path(&format!("{server}.log")))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn store(&self, place: &Place) -> Result<Server> {
        let clients = format!("http://{}:2379", place.address(STORE));
        let peers = format!("http://{}:2380", place.address(STORE));
        let mut etcd = self.service(place, "etcd")?;
        etcd.command.arg("--data-dir").arg(self.path("etcd"));
        etcd.command.args([
            "--name=store",
            "--log-level=warn",
            "--unsafe-no-fsync",
            &format!("--listen-client-urls={clients}"),
            &format!("--advertise-client-urls={clients}"),
            &format!("--listen-peer-urls={peers}"),
            &format!("--initial-advertise-peer-urls={peers}"),
            &format!("--initial-cluster=store={peers}"),
        ]);
        etcd.spawn()
    }

    fn server(&self, place: &Place) -> Result<Server> {
        let names = format!("subjectAltName=DNS:{HOST},DNS:kubernetes.default.svc");
        let extensions = [&names, "extendedKeyUsage=serverAuth"];
        let served =
            self.authority
                .sign_with("kube-apiserver", &format!("/CN={HOST}"), &extensions)?;
        let kubelet = self
            .authority
            .sign_client("to-kubelet", "/O=system:masters/CN=kube-apiserver")?;
        let mut key = Command::new("openssl");
        key.args(["genrsa", "-out"])
            .arg(self.path("accounts.key"))
            .arg("2048");
        ran::run(&mut key, "", PATIENCE)?.ok()?;
        files::write(
            &self.path("audit.yaml"),
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n\
             rules: [{level: Metadata}]\n",
        )?;
        let mut server = self.service(place, "kube-apiserver")?;
        let address = place.address(ADDRESS);
        server.command.args([
            &format!("--etcd-servers=http://{}:2379", place.address(STORE)),
            &format!("--bind-address={address}"),
            &format!("--secure-port={PORT}"),
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            "--kubelet-preferred-address-types=InternalIP",
            "--disable-admission-plugins=ServiceAccount",
        ]);
        let pem = self.authority.pem();
        let paths: [(&str, &Path); 11] = [
            ("tls-cert-file", &served.certificate),
            ("tls-private-key-file", &served.key),
            ("client-ca-file", &pem),
            ("kubelet-certificate-authority", &pem),
            ("kubelet-client-certificate", &kubelet.certificate),
            ("kubelet-client-key", &kubelet.key),
            ("service-account-key-file", &self.path("accounts.key")),
            (
                "service-account-signing-key-file",
                &self.path("accounts.key"),
            ),
            ("audit-policy-file", &self.path("audit.yaml")),
            ("audit-log-path", &self.path("audit.log")),
            ("cert-dir", &self.path("certificates")),
        ];
        for (flag, path) in paths {
            server.command.arg(format!("--{flag}={}", path.display()));
        }
        server.spawn()
    }

    /// Deployments get their pods, namespaces and owners' objects go away, accounts appear.
    fn controllers(&self, place: &Place) -> Result<Server> {
        let mut controllers = self.service(place, "kube-controller-manager")?;
        controllers.command.args([
            "--leader-elect=false",
            "--secure-port=0",
            "--controllers=*,-node-lifecycle-controller,-node-ipam-controller",
            &format!("--kubeconfig={}", self.kubeconfig().display()),
            &format!("--root-ca-file={}", self.authority.pem().display()),
            &format!(
                "--service-account-private-key-file={}",
                self.path("accounts.key").display()
            ),
        ]);
        controllers.spawn()
    }

    fn node(&self, place: &Place) -> Result<Server> {
        let address = place.address(KUBELET);
        let names = format!("subjectAltName=IP:{address},DNS:{NODE}");
        let extensions = [&names, "extendedKeyUsage=serverAuth"];
        let served =
            self.authority
                .sign_with(NODE, "/O=system:nodes/CN=system:node:node-1", &extensions)?;
        let mut node = self.service(place, "node")?;
        node.command.args([
            format!("--listen={address}:{KUBELET_PORT}"),
            format!("--node={NODE}"),
        ]);
        let pem = self.authority.pem();
        let paths: [(&str, &Path); 5] = [
            ("certificate", &served.certificate),
            ("key", &served.key),
            ("client-authority", &pem),
            ("kubeconfig", &self.kubeconfig()),
            ("folder", &self.path("pods")),
        ];
        for (flag, path) in paths {
            node.command.arg(format!("--{flag}={}", path.display()));
        }
        node.spawn()
    }

    fn add_node(&self, place: &Place) -> Result<()> {
        self.apply(
            place,
            &format!(
                "apiVersion: v1\nkind: Node\nmetadata:\n  name: {NODE}\n  labels:\n    \
                 kubernetes.io/hostname: {NODE}\n    kubernetes.io/os: linux\n"
            ),
        )
    }

    fn write_kubeconfigs(&self) -> Result<()> {
        let admin = self.client("admin", "/O=system:masters/CN=admin")?;
        let text = kubeconfig(
            &self.authority.pem(),
            &format!(
                "client-certificate: {}, client-key: {}",
                admin.certificate.display(),
                admin.key.display()
            ),
        );
        files::write_secret(&self.kubeconfig(), text)
    }

    /// Asks until the answer is good, or until a server has ended.
    fn wait(&self, place: &Place, servers: &mut [Server], question: &[&str]) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.kubectl(place, question, "")?;
            if answer.code == Some(0) {
                return Ok(());
            }
            for server in &mut *servers {
                server.check()?;
            }
            if Instant::now() > until {
                let log = self.log("kube-apiserver").unwrap_or_default();
                bail!("{question:?} never succeeds: {}\n{log}", answer.stderr);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn service(&self, place: &Place, name: &'static str) -> Result<Service> {
        Ok(Service {
            name,
            command: place.command("services", None, program(name)?)?,
            log: self.path(&format!("{name}.log")),
        })
    }
}

/// A kubeconfig of one cluster and one user; `user` is the inside of a flow mapping.
pub fn kubeconfig(authority: &Path, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: prod\n\
         clusters:\n- name: prod\n  cluster: {{server: \"{}\", certificate-authority: {}}}\n\
         contexts:\n- name: prod\n  context: {{cluster: prod, user: me}}\n\
         users:\n- name: me\n  user: {{{user}}}\n",
        Kubernetes::url(),
        authority.display()
    )
}

struct Service {
    name: &'static str,
    command: Command,
    log: PathBuf,
}

/// A server that runs; the world's cgroup ends it.
struct Server {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Service {
    fn spawn(mut self) -> Result<Server> {
        let log = File::create(&self.log)?;
        let child = self
            .command
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        Ok(Server {
            name: self.name,
            child,
            log: self.log,
        })
    }
}

impl Server {
    fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!(
                "{} ended ({status}):\n{}",
                self.name,
                files::read(&self.log).unwrap_or_default()
            ),
        }
    }
}
