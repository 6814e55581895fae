//! What a request's query asks for, beyond what the request is.
//!
//! Parameters are converted as `k8s.io/apimachinery/pkg/runtime` converts them: the first value
//! counts, and a flag is set by anything but `0` and `false`. The names are those of the types
//! `ListOptions`, `PatchOptions`, `DeleteOptions`, `PodExecOptions`, `PodLogOptions` and so on.

use super::target::Query;
use super::{RequestError, RequestInfo, selectors};

/// Options by the name of their parameter. One that the request has no use for is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestOptions {
    /// The query held a pair that the server leaves out as undecodable, or a number that is none.
    /// It answers 400 to the latter; versions of it differ about the former.
    pub malformed: bool,

    /// What the query claims. A `delete` with a body takes its options from the body alone, and an
    /// eviction's body has options of its own: there this does not make a request harmless.
    pub dry_run: DryRun,
    pub field_manager: String,
    pub field_validation: String,
    /// Server-side apply takes fields over from other managers.
    pub force: bool,

    /// Seconds; as with [`Self::dry_run`], a body replaces it.
    pub grace_period_seconds: Option<i64>,
    /// As with [`Self::dry_run`], a body replaces it.
    pub propagation_policy: String,

    /// How many objects a list may have at once; the server gives all where there is none.
    pub limit: Option<i64>,
    /// `continue`: where a list goes on.
    pub continue_from: String,
    pub resource_version: String,
    pub resource_version_match: String,
    /// After how many seconds the server ends a list or watch.
    pub timeout_seconds: Option<i64>,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: bool,

    /// The container of exec, attach and log; empty where the pod's default is meant.
    pub container: String,
    /// Program and arguments of exec.
    pub command: Vec<String>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,

    /// Ports of a WebSocket port-forward. Over SPDY each stream names its own, so this is empty.
    pub ports: Vec<u16>,

    /// The log is streamed until the container ends.
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub since_seconds: Option<i64>,
    /// RFC 3339, unchecked.
    pub since_time: String,
    pub tail_lines: Option<i64>,
    pub limit_bytes: Option<i64>,
    /// `All`, `Stdout` or `Stderr`; empty means all.
    pub stream: String,

    /// What is asked of the pod, service or node behind `proxy`: a path with its leading slash, or
    /// nothing. The whole query goes there as well.
    pub proxy_path: String,
}

/// The parameter `dryRun`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    /// Changes are meant.
    #[default]
    No,
    /// Every stage is to be gone through, but nothing stored.
    All,
    /// A value that the server answers 400 or 422 to.
    Unknown,
}

/// What reading a list needs to know of its options.
pub(super) struct List {
    pub watch: bool,
    /// The name that the field selector requires.
    pub name: Option<String>,
}

/// Decodes `ListOptions` the way that `NewRequestInfo` does: when anything in them can't be parsed,
/// only the watch flag is left of them.
pub(super) fn list(query: &Query) -> Result<List, RequestError> {
    let watch = query.first("watch")?;
    let fields = selectors::required_name(query.first("fieldSelector")?.unwrap_or_default());
    let labels = selectors::is_label_selector(query.first("labelSelector")?.unwrap_or_default());
    let mut numbers = true;
    for key in ["timeoutSeconds", "limit"] {
        numbers &= query.first(key)?.is_none_or(|text| integer(text).is_some());
    }
    Ok(match fields {
        Ok(name) if labels && numbers => List {
            watch: watch.is_some_and(flag),
            name,
        },
        _ => List {
            watch: watch.is_some_and(|text| {
                let text = text.to_ascii_lowercase();
                text != "false" && text != "0"
            }),
            name: None,
        },
    })
}

/// Reads the options that a request of this kind can have.
pub(super) fn read(info: &RequestInfo, query: &Query) -> Result<RequestOptions, RequestError> {
    let mut reader = Reader {
        query,
        malformed: query.left_out,
    };
    let mut options = RequestOptions::default();
    if info.is_resource {
        match info.verb.as_str() {
            "create" | "update" | "patch" => reader.write(&mut options)?,
            "delete" | "deletecollection" => {
                reader.write(&mut options)?;
                options.grace_period_seconds = reader.integer("gracePeriodSeconds")?;
                options.propagation_policy = reader.text("propagationPolicy")?;
            }
            _ => {}
        }
        if matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
            reader.list(&mut options)?;
        }
        reader.connect(info, &mut options)?;
    }
    options.malformed = reader.malformed;
    Ok(options)
}

struct Reader<'a> {
    query: &'a Query,
    malformed: bool,
}

impl Reader<'_> {
    fn write(&mut self, options: &mut RequestOptions) -> Result<(), RequestError> {
        options.dry_run = self.dry_run()?;
        options.field_manager = self.text("fieldManager")?;
        options.field_validation = self.text("fieldValidation")?;
        options.force = self.flag("force")?;
        Ok(())
    }

    fn list(&mut self, options: &mut RequestOptions) -> Result<(), RequestError> {
        options.limit = self.integer("limit")?;
        options.continue_from = self.text("continue")?;
        options.resource_version = self.text("resourceVersion")?;
        options.resource_version_match = self.text("resourceVersionMatch")?;
        options.timeout_seconds = self.integer("timeoutSeconds")?;
        options.allow_watch_bookmarks = self.flag("allowWatchBookmarks")?;
        options.send_initial_events = self.flag("sendInitialEvents")?;
        Ok(())
    }

    /// Subresources that lead to a node or into a container.
    fn connect(
        &mut self,
        info: &RequestInfo,
        options: &mut RequestOptions,
    ) -> Result<(), RequestError> {
        let core = info.api_prefix == "api";
        let pod = core && info.resource == "pods";
        match info.subresource.as_str() {
            "exec" | "attach" if pod => {
                options.container = self.text("container")?;
                options.stdin = self.flag("stdin")?;
                options.stdout = self.flag("stdout")?;
                options.stderr = self.flag("stderr")?;
                options.tty = self.flag("tty")?;
                if info.subresource == "exec" {
                    let command: Result<Vec<&str>, _> = self.query.all("command").collect();
                    options.command = command?.into_iter().map(str::to_owned).collect();
                }
            }
            "portforward" if pod => options.ports = self.ports()?,
            "log" if pod => self.log(options)?,
            "proxy" if core => options.proxy_path = proxy_path(info, 3),
            _ if info.verb == "proxy" => options.proxy_path = proxy_path(info, 2),
            _ => {}
        }
        Ok(())
    }

    fn log(&mut self, options: &mut RequestOptions) -> Result<(), RequestError> {
        options.container = self.text("container")?;
        options.follow = self.flag("follow")?;
        options.previous = self.flag("previous")?;
        options.timestamps = self.flag("timestamps")?;
        options.since_seconds = self.integer("sinceSeconds")?;
        options.since_time = self.text("sinceTime")?;
        options.tail_lines = self.integer("tailLines")?;
        options.limit_bytes = self.integer("limitBytes")?;
        options.stream = self.text("stream")?;
        Ok(())
    }

    fn text(&self, key: &str) -> Result<String, RequestError> {
        Ok(self.query.first(key)?.unwrap_or_default().to_owned())
    }

    fn flag(&self, key: &str) -> Result<bool, RequestError> {
        Ok(self.query.first(key)?.is_some_and(flag))
    }

    fn integer(&mut self, key: &str) -> Result<Option<i64>, RequestError> {
        let text = self.query.first(key)?;
        let number = text.and_then(integer);
        self.malformed |= text.is_some() && number.is_none();
        Ok(number)
    }

    fn dry_run(&self) -> Result<DryRun, RequestError> {
        let mut dry_run = DryRun::No;
        for value in self.query.all("dryRun") {
            dry_run = match (dry_run, value?) {
                (DryRun::No | DryRun::All, "All") => DryRun::All,
                _ => DryRun::Unknown,
            };
        }
        Ok(dry_run)
    }

    fn ports(&mut self) -> Result<Vec<u16>, RequestError> {
        let mut ports = Vec::new();
        for list in self.query.all("ports") {
            for text in list?.split(',') {
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                match text.parse() {
                    Ok(port) if digits => ports.push(port),
                    _ => self.malformed = true,
                }
            }
        }
        Ok(ports)
    }
}

/// As `handlers.ConnectResource` puts it together from the segments that nothing interpreted.
fn proxy_path(info: &RequestInfo, uninterpreted: usize) -> String {
    let parts = info.parts.get(uninterpreted..).unwrap_or_default();
    let mut path = parts.join("/");
    if !path.is_empty() && !path.starts_with('/') {
        path.insert(0, '/');
    }
    if info.path.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    }
    path
}

/// Anything but `0` and `false` is true, an empty value included.
fn flag(text: &str) -> bool {
    // Go compares with folded case, where a long s is an s.
    let folded = text.replace('ſ', "s");
    text != "0" && !folded.eq_ignore_ascii_case("false")
}

/// `strconv.ParseInt` in base 10.
fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}
