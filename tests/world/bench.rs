//! (under construction)
use anyhow::Result;
pub fn run(_quick: bool) -> Result<()> {
    Ok(())
}
