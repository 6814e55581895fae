//! Refusals of whole connections, in the words that the client and the recording get.

use std::net::TcpStream;
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

use crate::decide::{Code, Refusal, Retry};
use crate::forward::ssh::SshError;
use crate::forward::{ForwardError, Unroutable};
use crate::handover::Handover;
use crate::identify::{IdentityError, Reason};
use crate::ids::ExchangeId;

pub fn no_agent(handover: &Handover) -> Refusal {
    if let Some(unmapped) = &handover.refused {
        let (code, why) = (Code::Identity, unmapped.why.clone());
        return refusal(code, Retry::Never, why, &unmapped.next);
    }
    refusal(
        Code::Destination,
        Retry::Never,
        format!(
            "no agent is configured for the cgroup {}",
            handover.process.cgroup
        ),
        "an operator must map this cgroup with an [[agent]] entry",
    )
}

pub fn identity(error: &IdentityError) -> Refusal {
    let retry = if error.is_passing() {
        Retry::Again
    } else {
        Retry::Never
    };
    let hint = match error.reason {
        Reason::Suspended { .. } => {
            "nothing was forwarded; an operator decides whether this agent goes on, and another token changes nothing"
        }
        Reason::Unreachable(_) | Reason::NoKeys(_) | Reason::NotObtained(_) => {
            "nothing was forwarded; the issuer or the way to it needs an operator, the token may be right"
        }
        _ => {
            "nothing was forwarded; whoever runs this agent must correct its token, and `hoop whoami` shows what hoop sees"
        }
    };
    refusal(Code::Identity, retry, error.to_string(), hint)
}

pub fn unroutable(why: &Unroutable) -> Refusal {
    let hint = "use a destination that is configured, or have an operator add it as a [[resource]] or to egress_allow";
    refusal(Code::Destination, Retry::Never, why.to_string(), hint)
}

pub fn upstream(error: &ForwardError) -> Refusal {
    if matches!(error, ForwardError::Parameter(_)) {
        let hint = "connect without it, or have an operator set it for the server's login";
        return refusal(Code::NotPermitted, Retry::Never, error.to_string(), hint);
    }
    if let ForwardError::Unproven(why) = error {
        return unproven(why);
    }
    let hint = "the server behind hoop does not take the connection; the address, the credential or the server needs an operator";
    refusal(Code::Unavailable, Retry::Again, error.to_string(), hint)
}

pub fn unproven(why: &str) -> Refusal {
    let hint = "an operator must let the server prove itself (tls = \"verify-full\", or host_keys of an SSH server), or have it dialled from the host (network = \"host\")";
    refusal(Code::Destination, Retry::Never, why.into(), hint)
}

/// The same of a server that is reached by SSH.
pub fn host(error: &SshError) -> Refusal {
    if let SshError::Unproven(why) = error {
        return unproven(why);
    }
    let hint = match error {
        SshError::Host(_) => {
            "an operator must say by which key this server is known (host_keys, host_ca or known_hosts); if its key was changed on purpose, the old one must go"
        }
        _ => {
            "the server behind hoop does not take the connection; the address, the credential or the server needs an operator"
        }
    };
    refusal(Code::Unavailable, Retry::Again, error.to_string(), hint)
}

/// Whoever asks has a name that no header can say.
pub fn unnameable(name: &str) -> Refusal {
    let message = format!("{name:?} is no name that an API server can be asked for");
    let hint = "an operator must choose another user or group in the resource's impersonate";
    refusal(Code::Unavailable, Retry::Never, message, hint)
}

pub fn unrecordable(why: &str) -> Refusal {
    let message = format!("the session cannot be recorded, so it does not begin: {why}");
    refusal(
        Code::Unavailable,
        Retry::Again,
        message,
        "an operator must look at hoop's recordings folder",
    )
}

fn refusal(code: Code, retry: Retry, message: String, hint: &str) -> Refusal {
    Refusal {
        exchange: ExchangeId(0),
        unit: 0,
        code,
        message,
        rule: None,
        retry,
        hint: hint.into(),
        approval: None,
        asked: None,
    }
}

/// Makes the close that follows a reset: no client mistakes it for an orderly end.
pub fn reset(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // Where it fails the peer sees an orderly close: no worse than not having tried.
    let _ = setsockopt(&stream.as_fd(), sockopt::Linger, &linger);
}
