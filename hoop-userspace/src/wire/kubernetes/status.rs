//! `meta/v1` Status: how an API server says that it did not do what was asked.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>. kubectl prints
//! `message` behind "Error from server (REASON):", and client libraries turn `reason` into their own
//! errors, so it is one of Kubernetes' own words.

use serde::Serialize;

/// An answer that is a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    metadata: Metadata,
    status: &'static str,
    pub message: String,
    pub reason: &'static str,
    pub details: Details,
    /// Of HTTP.
    pub code: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Metadata {}

/// What the failure is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource in the plural, as the API server has it here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Client libraries wait as long and ask again.
    #[serde(rename = "retryAfterSeconds", skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// A word for programs.
    pub reason: String,
    pub message: String,
}

/// Reasons that Kubernetes has, with the code of HTTP that each goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    BadRequest,
    Unauthorized,
    Forbidden,
    Conflict,
    Timeout,
    RequestEntityTooLarge,
    InternalError,
    ServiceUnavailable,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::Conflict => "Conflict",
            Self::Timeout => "Timeout",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::InternalError => "InternalError",
            Self::ServiceUnavailable => "ServiceUnavailable",
        }
    }

    /// The word for a code that an answer has already.
    pub fn of(code: u16) -> Self {
        match code {
            400 => Self::BadRequest,
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            409 => Self::Conflict,
            413 => Self::RequestEntityTooLarge,
            503 => Self::ServiceUnavailable,
            504 => Self::Timeout,
            _ => Self::InternalError,
        }
    }

    /// Of HTTP.
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::Conflict => 409,
            Self::Timeout => 504,
            Self::RequestEntityTooLarge => 413,
            Self::InternalError => 500,
            Self::ServiceUnavailable => 503,
        }
    }
}

impl Status {
    pub fn failure(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: Metadata {},
            status: "Failure",
            message: message.into(),
            reason: reason.as_str(),
            details: Details::default(),
            code: reason.code(),
        }
    }

    /// What it is about, in the words of the request.
    #[must_use]
    pub fn about(mut self, group: &str, resource: &str, name: &str) -> Self {
        group.clone_into(&mut self.details.group);
        resource.clone_into(&mut self.details.kind);
        name.clone_into(&mut self.details.name);
        self
    }

    #[must_use]
    pub fn cause(mut self, reason: &str, message: impl Into<String>) -> Self {
        self.details.causes.push(Cause {
            reason: reason.to_owned(),
            message: message.into(),
        });
        self
    }

    /// One line.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and lists of them cannot fail to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_goes_with_its_code() {
        for code in [400, 401, 403, 409, 413, 500, 503, 504] {
            assert_eq!(Reason::of(code).code(), code);
        }
        assert_eq!(Reason::of(502), Reason::InternalError);
    }

    #[test]
    fn it_reads_as_the_api_servers_own() {
        let status = Status::failure(Reason::Forbidden, "bot may not delete pods")
            .about("", "pods", "web-1")
            .cause("hoop", r#"{"code":"forbidden"}"#);
        let text = String::from_utf8(status.to_json()).unwrap();
        insta::assert_snapshot!(text, @r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"bot may not delete pods","reason":"Forbidden","details":{"name":"web-1","kind":"pods","causes":[{"reason":"hoop","message":"{\"code\":\"forbidden\"}"}]},"code":403}"#);
    }
}
