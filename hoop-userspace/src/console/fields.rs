//! What a request brings: its query, its cookies, and the fields of a form or of a JSON object.

use std::collections::BTreeMap;

use ::http::header;
use ::http::request::Parts;
use serde_json::Value;

/// Fields of one form; more are a mistake or an attack.
const MAX_FIELDS: usize = 64;

/// Names and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    pub fn of_query(head: &Parts) -> Self {
        Self::of_text(head.uri.query().unwrap_or_default())
    }

    /// Of a query by itself.
    pub fn of_text(query: &str) -> Self {
        Self::urlencoded(query.as_bytes())
    }

    /// A form's or a JSON object's, as `Content-Type` says; `None` where it is neither.
    pub fn of_body(head: &Parts, body: &[u8]) -> Option<Self> {
        let kind = head.headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        match kind.split(';').next().unwrap_or_default().trim() {
            "application/x-www-form-urlencoded" => Some(Self::urlencoded(body)),
            "application/json" => Self::json(body),
            // A button without fields.
            "" if body.is_empty() => Some(Self::default()),
            _ => None,
        }
    }

    fn urlencoded(bytes: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(bytes).take(MAX_FIELDS);
        Self(
            pairs
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
        )
    }

    fn json(bytes: &[u8]) -> Option<Self> {
        let Ok(Value::Object(object)) = serde_json::from_slice(bytes) else {
            return None;
        };
        let field = |(name, value): (String, Value)| match value {
            Value::String(text) => Some((name, text)),
            Value::Bool(true) => Some((name, "on".to_owned())),
            Value::Number(number) => Some((name, number.to_string())),
            _ => None,
        };
        Some(Self(
            object
                .into_iter()
                .take(MAX_FIELDS)
                .filter_map(field)
                .collect(),
        ))
    }

    /// Empty where it is absent.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub fn is_set(&self, name: &str) -> bool {
        !matches!(self.get(name), "" | "false" | "0")
    }
}

/// The value of a cookie (RFC 6265 §4.2). Of two with one name the first, which is the more
/// specific.
pub fn cookie<'h>(head: &'h Parts, name: &str) -> Option<&'h str> {
    let lines = head.headers.get_all(header::COOKIE).iter();
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
        .filter(|value| (16..=128).contains(&value.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::Request;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/x?a=1&b=%C3%A4+&a=2");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn fields_come_from_forms_queries_and_objects() {
        let query = Fields::of_query(&head(&[]));
        assert_eq!((query.get("b"), query.get("c")), ("ä ", ""));
        let form = head(&[(
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        )]);
        assert_eq!(
            Fields::of_body(&form, b"reason=a%26b")
                .unwrap()
                .get("reason"),
            "a&b"
        );
        let json = head(&[("content-type", "application/json")]);
        let body = br#"{"reason": "x", "break_glass": true, "n": 3, "deep": {}}"#;
        let fields = Fields::of_body(&json, body).unwrap();
        assert!(fields.is_set("break_glass") && !fields.is_set("deep"));
        assert_eq!(fields.get("n"), "3");
        assert_eq!(Fields::of_body(&json, b"[]"), None);
        // What a form of another site can send without asking first is no JSON.
        let plain = head(&[("content-type", "text/plain")]);
        assert_eq!(Fields::of_body(&plain, b"{}"), None);
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let value = "0123456789abcdef";
        let line = format!("xhoop=a; hoop={value};other=b");
        assert_eq!(cookie(&head(&[("cookie", &line)]), "hoop"), Some(value));
        assert_eq!(cookie(&head(&[("cookie", "hoop=short")]), "hoop"), None);
        assert_eq!(cookie(&head(&[]), "hoop"), None);
    }
}
