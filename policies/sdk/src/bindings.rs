//! Generated from `wit/1.0.0`: the records of the world `guard` and the glue that exports its functions.
//!
//! Nothing here is written by hand, and a policy does not name it: it uses what the crate's root re-exports. It is
//! public because [`export_policy!`](crate::export_policy) expands in the policy's crate.

wit_bindgen::generate!({
    path: "../../wit/1.0.0",
    world: "guard",
    default_bindings_module: "bull_policy_sdk::bindings",
    export_macro_name: "export",
    pub_export_macro: true,
});
