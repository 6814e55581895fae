//! Decides requests under one configuration's policies.

use crate::config::Config;
use crate::terminate::Request;

use super::{Code, Decided, Refusal, Retry, Subject};

/// The policies of one configuration, compiled, with their caches.
#[derive(Debug)]
pub struct Decider {}

/// The policies do not compile.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    #[error("{0}")]
    Policy(String),
}

impl Decider {
    pub fn new(_config: &Config) -> Result<Self, DecideError> {
        Ok(Self {})
    }

    pub fn decide(&self, _subject: &Subject, request: Request) -> Decided {
        Decided::Refused {
            before: None,
            refusal: Refusal {
                exchange: request.exchange,
                unit: 0,
                code: Code::PolicyError,
                message: "no policy is loaded".into(),
                rule: None,
                retry: Retry::Never,
                hint: "tell the operator".into(),
                asked: None,
            },
        }
    }
}
