//! Functions that clients call by number: the protocol's FunctionCall, which libpq and JDBC use for
//! large objects.

use std::hash::BuildHasher;
use std::sync::Arc;

use crate::terminate::SqlText;

/// The numbers of PostgreSQL's own functions are part of its releases and never given anew. Each is
/// decided by name and number of arguments.
const FUNCTIONS: &[(u32, &str, usize)] = &[
    (715, "lo_create", 1),
    (764, "lo_import", 1),
    (765, "lo_export", 2),
    (767, "lo_import", 2),
    (952, "lo_open", 2),
    (953, "lo_close", 1),
    (954, "loread", 2),
    (955, "lowrite", 2),
    (956, "lo_lseek", 3),
    (957, "lo_creat", 1),
    (958, "lo_tell", 1),
    (964, "lo_unlink", 1),
    (1004, "lo_truncate", 2),
    (3170, "lo_lseek64", 3),
    (3171, "lo_tell64", 1),
    (3172, "lo_truncate64", 2),
];

/// The call as SQL; its arguments decide nothing.
pub(super) fn call(oid: u32) -> Option<Arc<SqlText>> {
    let (_, name, arguments) = FUNCTIONS.iter().find(|(known, ..)| *known == oid)?;
    let arguments = vec!["NULL"; *arguments].join(", ");
    let text = format!("SELECT pg_catalog.{name}({arguments})");
    Some(Arc::new(SqlText {
        hash: foldhash::fast::FixedState::default().hash_one(text.as_str()),
        text: text.into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_one_function() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.0 < b.0));
        let text = call(954).unwrap();
        assert_eq!(&*text.text, "SELECT pg_catalog.loread(NULL, NULL)");
        assert!(call(2079).is_none());
    }
}
