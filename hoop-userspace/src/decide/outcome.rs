//! What became of one unit of a request, and how the outcomes of several texts join.

use std::sync::Arc;

use crate::ids::ExchangeId;
use crate::terminate::{SqlStep, SqlText};

use super::cedar::join as join_demands;
use super::decider::Verdict;
use super::words::Words;
use super::{Demand, Facts, PermittedUnit, Rule};

pub(super) enum Outcome {
    Permit(PermittedUnit),
    Refuse {
        words: Arc<Words>,
        asked: Option<Arc<SqlText>>,
        statement: Option<Arc<Facts>>,
        /// Observe mode cannot let it pass either.
        always: bool,
    },
    Ask(Ask),
}

pub(super) struct Ask {
    /// What is permitted once somebody approves.
    pub permitted: PermittedUnit,
    pub demands: Arc<[Arc<Demand>]>,
    pub otherwise: Arc<Words>,
    pub asked: Option<Arc<SqlText>>,
}

impl Outcome {
    pub(super) fn of(
        verdict: &Verdict,
        facts: Arc<Facts>,
        text: &Arc<SqlText>,
        step: SqlStep,
    ) -> Self {
        let permitted = |rules: &Arc<[Rule]>| PermittedUnit {
            statement: Some(facts.clone()),
            rules: rules.clone(),
            runs: step != SqlStep::Prepare,
            would_refuse: None,
        };
        match verdict {
            Verdict::Permit(rules) => Self::Permit(permitted(rules)),
            // Nothing runs yet, and the parameters are not known: the question comes with Run.
            Verdict::Ask { rules, .. } if step == SqlStep::Prepare => {
                Self::Permit(permitted(rules))
            }
            Verdict::Ask {
                rules,
                demands,
                otherwise,
            } => Self::Ask(Ask {
                permitted: permitted(rules),
                demands: demands.clone(),
                otherwise: otherwise.clone(),
                asked: Some(text.clone()),
            }),
            Verdict::Refuse(words) => {
                Self::refuse(words.clone(), Some(text.clone()), Some(facts.clone()))
            }
        }
    }

    /// Of what is no SQL: nothing is known of results.
    pub(super) fn judged(verdict: Verdict, text: &Arc<SqlText>) -> Self {
        let permitted = |rules| PermittedUnit {
            statement: None,
            rules,
            runs: true,
            would_refuse: None,
        };
        match verdict {
            Verdict::Permit(rules) => Self::Permit(permitted(rules)),
            Verdict::Ask {
                rules,
                demands,
                otherwise,
            } => Self::Ask(Ask {
                permitted: permitted(rules),
                demands,
                otherwise,
                asked: Some(text.clone()),
            }),
            Verdict::Refuse(words) => Self::refuse(words, Some(text.clone()), None),
        }
    }

    pub(super) fn refuse(
        words: Arc<Words>,
        asked: Option<Arc<SqlText>>,
        statement: Option<Arc<Facts>>,
    ) -> Self {
        Self::Refuse {
            words,
            asked,
            statement,
            always: false,
        }
    }

    /// Marks a refusal as one of every mode unless `passable`.
    pub(super) fn final_unless(mut self, passable: bool) -> Self {
        if let Self::Refuse { always, .. } = &mut self {
            *always = !passable;
        }
        self
    }

    /// Both texts may run, so both must be permitted, and what holds of either holds.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (refused @ Self::Refuse { .. }, _) | (_, refused @ Self::Refuse { .. }) => refused,
            (Self::Ask(mut ask), Self::Permit(unit)) | (Self::Permit(unit), Self::Ask(mut ask)) => {
                ask.permitted = join(ask.permitted, unit);
                Self::Ask(ask)
            }
            (Self::Ask(mut one), Self::Ask(two)) => {
                one.permitted = join(one.permitted, two.permitted);
                let mut demands = one.demands.to_vec();
                join_demands(&mut demands, two.demands.iter().cloned());
                one.demands = demands.into();
                Self::Ask(one)
            }
            (Self::Permit(one), Self::Permit(two)) => Self::Permit(join(one, two)),
        }
    }

    /// In observe mode everything passes that can, with what would have been said.
    pub(super) fn observed(self, exchange: ExchangeId, unit: u16) -> Self {
        let mark = |words: &Words, asked| Some(Box::new(words.refusal(exchange, unit, asked)));
        match self {
            Self::Refuse {
                words,
                asked,
                statement,
                always: false,
            } => Self::Permit(PermittedUnit {
                statement,
                rules: Arc::default(),
                runs: true,
                would_refuse: mark(&words, asked),
            }),
            Self::Ask(ask) => Self::Permit(PermittedUnit {
                would_refuse: mark(&ask.otherwise, ask.asked),
                ..ask.permitted
            }),
            outcome => outcome,
        }
    }
}

fn join(one: PermittedUnit, two: PermittedUnit) -> PermittedUnit {
    let mut rules: Vec<_> = one.rules.iter().chain(&*two.rules).cloned().collect();
    rules.sort();
    rules.dedup();
    let statement = match (one.statement, two.statement) {
        (Some(one), Some(two)) => Some(Arc::new(one.either(&two))),
        (one, two) => one.or(two),
    };
    PermittedUnit {
        statement,
        rules: rules.into(),
        runs: one.runs || two.runs,
        would_refuse: None,
    }
}
