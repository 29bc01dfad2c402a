//! The ways in which the engine can compute: what in, and with which instructions.

use engine::{Compute, Isa};

/// One way to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) compute: Compute,
    pub(crate) isa: Isa,
}

impl Way {
    /// float32 by the fastest code of this CPU.
    pub(crate) const FLOAT32: Self = Self { compute: Compute::Float32, isa: Isa::Auto };

    /// All there are, whether this CPU has them or not: first the fastest code for each, then what can be forced.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let isas = Isa::ALL.into_iter().filter(|isa| *isa != Isa::Amx);
        isas.flat_map(|isa| Compute::ALL.map(|compute| Self { compute, isa }))
            .filter(|way| way.compute != Compute::Bfloat16 || way.isa != Isa::Portable)
    }

    /// Its name on the command line and in tables.
    pub(crate) fn name(self) -> String {
        match self.isa {
            Isa::Auto => self.compute.name().to_owned(),
            isa @ (Isa::Amx | Isa::Avx512 | Isa::Avx2 | Isa::Portable) => {
                format!("{}-{}", self.compute.name(), isa.name())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_are_told_apart_by_name() {
        let names: Vec<_> = Way::all().map(Way::name).collect();
        let expected = [
            "int8",
            "bfloat16",
            "float32",
            "int8-avx512",
            "bfloat16-avx512",
            "float32-avx512",
            "int8-avx2",
            "bfloat16-avx2",
            "float32-avx2",
            "int8-portable",
            "float32-portable",
        ];
        assert_eq!(names, expected);
    }
}
