//! How many rows a statement would return or change, as the server's planner expects it.
//!
//! The statement is planned on a connection of hoop's own, and never run: `EXPLAIN` without
//! `ANALYZE`, in a transaction that may only read. Planning evaluates functions that are declared
//! immutable, and takes the statement's locks for a moment, which is why a resource must permit it
//! (`estimate = true`). It is an estimate: by statistics, and by the login's own search path.

use std::time::Duration;

use serde_json::Value;

use super::catalog::{query, text};
use super::{Connector, ForwardError};
use crate::forward::route::Target;
use crate::wire::postgres::login as wire;

/// All of it, the login too.
const WITHIN: Duration = Duration::from_secs(3);

const SETTINGS: &[(&str, &str)] = &[
    ("application_name", "hoop estimate"),
    ("client_encoding", "UTF8"),
    ("default_transaction_read_only", "on"),
    // The server is to read the text as hoop has read it, whatever the login's own settings are.
    ("standard_conforming_strings", "on"),
    ("backslash_quote", "safe_encoding"),
    ("lock_timeout", "200"),
    ("statement_timeout", "1500"),
];

/// Plans one statement; `None` where the plan says nothing.
pub(super) async fn rows(
    connector: &Connector,
    target: &Target<'_>,
    database: &str,
    statement: &str,
) -> Result<Option<u64>, ForwardError> {
    let planned = async {
        let (mut channel, _) = connector.log_in(target, database, SETTINGS).await?;
        let explain = format!("EXPLAIN (FORMAT JSON) {statement}");
        let plan = query(&mut channel, &explain, |row| {
            text(row, 0).map(str::to_owned)
        })
        .await?;
        // Politeness only: the server notices a closed connection as well.
        let _ = channel.send(&wire::terminate()).await;
        Ok(plan.first().and_then(|plan| of_plan(plan)))
    };
    let planned = tokio::time::timeout(WITHIN, planned).await;
    planned.map_err(|_| ForwardError::Timeout(WITHIN.as_secs()))?
}

/// Of a plan that changes rows those that it finds to change; of another what it returns.
fn of_plan(json: &str) -> Option<u64> {
    let explained: Value = serde_json::from_str(json).ok()?;
    let plan = explained.pointer("/0/Plan")?;
    if plan.get("Node Type")?.as_str()? != "ModifyTable" {
        return expected(plan);
    }
    // A child for the rows, or in older versions one for each partition; others are subqueries.
    let children = plan.get("Plans")?.as_array()?.iter();
    let rows = children.filter(|child| {
        let relation = child.get("Parent Relationship").and_then(Value::as_str);
        matches!(relation, Some("Outer" | "Member"))
    });
    rows.map(expected)
        .try_fold(0_u64, |sum, rows| Some(sum.saturating_add(rows?)))
}

fn expected(plan: &Value) -> Option<u64> {
    let rows = plan.get("Plan Rows")?;
    // Planners count in floating point, and huge joins are written so.
    rows.as_u64()
        .or_else(|| rows.as_f64().map(|rows| rows.clamp(0.0, 1e18) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_that_are_returned_or_changed() {
        let select = r#"[{"Plan": {"Node Type": "Seq Scan", "Plan Rows": 1270}}]"#;
        assert_eq!(of_plan(select), Some(1270));
        let update = r#"[{"Plan": {"Node Type": "ModifyTable", "Plan Rows": 0, "Plans": [
            {"Node Type": "Result", "Parent Relationship": "InitPlan", "Plan Rows": 1},
            {"Node Type": "Seq Scan", "Parent Relationship": "Outer", "Plan Rows": 42}]}}]"#;
        assert_eq!(of_plan(update), Some(42));
        let partitions = r#"[{"Plan": {"Node Type": "ModifyTable", "Plan Rows": 3, "Plans": [
            {"Parent Relationship": "Member", "Plan Rows": 2},
            {"Parent Relationship": "Member", "Plan Rows": 5}]}}]"#;
        assert_eq!(of_plan(partitions), Some(7));
        for nothing in [
            "",
            "[]",
            "{}",
            r#"[{"Plan": {"Node Type": "ModifyTable"}}]"#,
            r#"[{"Plan": 7}]"#,
        ] {
            assert_eq!(of_plan(nothing), None, "{nothing}");
        }
        let huge = r#"[{"Plan": {"Node Type": "Nested Loop", "Plan Rows": 1e300}}]"#;
        assert_eq!(of_plan(huge), Some(1_000_000_000_000_000_000));
    }
}
