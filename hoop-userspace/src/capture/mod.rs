//! (under construction)

mod inherited;

pub use inherited::close_inherited_on_exec;
