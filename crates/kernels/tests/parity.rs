//! Every kernel of every tier against plain loops in f64, over random shapes.
#![expect(unsafe_code, reason = "the C library's erf is the truth about GELU")]

mod parity {
    pub(crate) mod attention;
    pub(crate) mod fused;
    pub(crate) mod int8;
    pub(crate) mod linear;
    pub(crate) mod norm;
    pub(crate) mod reuse;
    pub(crate) mod team;
    pub(crate) mod tiers;
    pub(crate) mod twin;
}
