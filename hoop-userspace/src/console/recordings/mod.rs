//! Recordings, as people look for them and read them. The keeper opens each; nothing here has a
//! path.

mod feed;
mod index;
pub mod measure;
mod search;

pub use feed::keep_fed;
pub use index::Index;
pub use search::Search;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, RwLock};

use super::link::Link;
use crate::handover::console::{Denied, Wish};
use crate::replay::Reader;

/// One for the process; the feed fills it while pages are served.
pub type Shared = Arc<RwLock<Index>>;

/// Has the keeper open a recording.
pub async fn open(link: &Link, session: &str) -> Result<Reader, Denied> {
    let wish = Wish::Recording {
        session: session.to_owned(),
    };
    let (_, file) = link.ask_for_file(None, wish).await?;
    let file = file.ok_or_else(|| Denied::Failed("the keeper opened nothing".into()))?;
    Ok(Reader::of(Path::new(session), File::from(file)))
}
