//! The description of the API describes it: every route is in it, and every answer is as it says.

use serde_json::Value;

use super::{Console, asked, text};
use crate::console::document::document;
use crate::console::routes::{ROUTES, To};
use crate::handover::console::Role;

/// As much of JSON Schema as the document uses; anything else fails.
fn validate(document: &Value, schema: &Value, value: &Value, at: &str) {
    for (key, rule) in schema.as_object().unwrap() {
        match key.as_str() {
            "$ref" => {
                let target = rule.as_str().unwrap().strip_prefix('#').unwrap();
                let target = document.pointer(target);
                validate(
                    document,
                    target.unwrap_or_else(|| panic!("{rule}")),
                    value,
                    at,
                );
            }
            "type" => {
                let types: Vec<&str> = match rule {
                    Value::String(one) => vec![one],
                    several => several
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|t| t.as_str().unwrap())
                        .collect(),
                };
                let is = match value {
                    Value::Null => "null",
                    Value::Bool(_) => "boolean",
                    Value::Number(_) => "integer",
                    Value::String(_) => "string",
                    Value::Array(_) => "array",
                    Value::Object(_) => "object",
                };
                assert!(types.contains(&is), "{at} is {is}, and should be {types:?}");
            }
            "enum" => assert!(rule.as_array().unwrap().contains(value), "{at} is {value}"),
            "required" => {
                for name in rule.as_array().unwrap() {
                    assert!(
                        value.get(name.as_str().unwrap()).is_some(),
                        "{at} lacks {name}"
                    );
                }
            }
            "properties" => {
                for (name, schema) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        validate(document, schema, value, &format!("{at}/{name}"));
                    }
                }
            }
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    validate(document, rule, item, &format!("{at}/{n}"));
                }
            }
            other => panic!("{other} at {at} is not checked"),
        }
    }
}

#[tokio::test]
async fn every_route_of_the_api_is_described_and_answers_so() {
    let document = document();
    let described: usize = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|p| p.as_object().unwrap().len())
        .sum();
    let routed = ROUTES
        .iter()
        .filter(|route| route.path.starts_with("/api/"));
    assert_eq!(described, routed.clone().count());
    for route in routed {
        let console = Console::with(Some(&Role::ALL));
        let method = route.method.as_str().to_lowercase();
        let operation = &document["paths"][route.path][&method];
        for segment in route.path.split('/').filter(|s| s.starts_with('{')) {
            let name = segment.trim_matches(['{', '}']);
            let parameters = operation["parameters"].as_array().unwrap();
            assert!(
                parameters
                    .iter()
                    .any(|p| p["name"] == name && p["in"] == "path"),
                "{name}"
            );
        }
        let path = route
            .path
            .replace("{session}", "06c4b9d1s0abcdefghjkmnpqrs");
        let path: Vec<&str> = path
            .split('/')
            .map(|s| if s.starts_with('{') { "bot" } else { s })
            .collect();
        let path = path.join("/");
        let (status, said) = match route.to {
            To::Call(_) => {
                let fields =
                    "verdict=approve&reason=x&agent=bot&resource=orders&sql=SELECT+1&value=x";
                console.post(&path, fields).await
            }
            _ => console.get(&path).await,
        };
        // What is not there in the play has its answer described as well.
        let schema =
            &operation["responses"][status.to_string()]["content"]["application/json"]["schema"];
        assert!(
            schema.is_object(),
            "{} {path} answers {status}, which is not described",
            route.method
        );
        let value: Value = serde_json::from_str(&said).unwrap();
        validate(&document, schema, &value, &path);
        if !matches!(status, 200 | 404) {
            panic!("{} {path} answers {status}: {said}", route.method);
        }
    }
}

#[tokio::test]
async fn failures_are_described_too() {
    let document = document();
    let error = &document["components"]["schemas"]["Error"];
    for console in [Console::with(None), Console::with(Some(&[Role::Viewer]))] {
        let request = asked(
            ::http::Method::POST,
            "/api/v1/agents/bot/suspend",
            "reason=x",
        );
        let (status, said) = text(console.send(request).await).await;
        assert!(status == 401 || status == 403, "{status}");
        validate(
            &document,
            error,
            &serde_json::from_str(&said).unwrap(),
            "error",
        );
    }
}
