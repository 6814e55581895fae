//! Refusals as an API server gives them.

use crate::decide::{Code, Refusal};
use crate::wire::kubernetes::request::RequestInfo;
use crate::wire::kubernetes::status::{Reason, Status};

/// The reason of the cause that holds the JSON line.
const CAUSE: &str = "hoop";

impl Refusal {
    /// As a `meta/v1` Status: kubectl prints the message, and programs find the stable JSON line in
    /// `details.causes`.
    ///
    /// What is not a matter of size or availability is 403: on 401 kubectl says that one must log
    /// in, and client-go gets a new token, and on 409 clients ask again.
    pub fn status(&self, info: &RequestInfo) -> Status {
        let reason = match self.code {
            Code::TooLarge => Reason::RequestEntityTooLarge,
            Code::Unavailable | Code::Changed => Reason::ServiceUnavailable,
            _ => Reason::Forbidden,
        };
        let message = format!("hoop: {}; {}", self.message, self.hint);
        Status::failure(reason, message)
            .about(&info.api_group, &info.resource, &info.name)
            .cause(CAUSE, self.json_line())
    }
}
