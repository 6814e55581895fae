//! The part of the catalog look-up that decisions need: who owns what, which tables have triggers,
//! what views read of the system's own, what functions declare of themselves.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::ForwardError;
use super::catalog::{number, query, text};
use super::login::Channel;
use crate::decide::{KnownFunction, KnownRelation, Objects, RelationName, Volatility};
use crate::mask::Relation;

/// Triggers that keep foreign keys are internal, and run no code of anybody's.
const RELATIONS: &str = "select c.oid, pg_get_userbyid(c.relowner), \
    exists (select 1 from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal \
      and t.tgenabled <> 'D') \
    or exists (select 1 from pg_rewrite r where r.ev_class = c.oid and r.ev_type <> '1' \
      and r.ev_enabled <> 'D') \
    from pg_class c where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.oid >= 16384";

/// Of what views read, the system's own relations.
const SYSTEM: &str = "select distinct r.ev_class, n.nspname, c.relname \
    from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid \
    join pg_class c on d.refclassid = 'pg_class'::regclass and c.oid = d.refobjid \
    join pg_namespace n on n.oid = c.relnamespace \
    where r.ev_type = '1' and r.ev_class >= 16384 and c.oid < 16384";

/// An aggregate says nothing of itself that counts: its parts do. An operator is its function.
const FUNCTIONS: &str = "with named as ( \
      select p.pronamespace as schema, p.proname as name, p.oid as code \
      from pg_proc p where p.oid >= 16384 and p.prokind <> 'a' \
      union all select o.oprnamespace, o.oprname, o.oprcode::oid \
      from pg_operator o where o.oid >= 16384 \
      union all select p.pronamespace, p.proname, part.code \
      from pg_aggregate a join pg_proc p on p.oid = a.aggfnoid::oid, \
        unnest(array[a.aggtransfn::oid, a.aggfinalfn::oid, a.aggcombinefn::oid, \
          a.aggserialfn::oid, a.aggdeserialfn::oid, a.aggmtransfn::oid, a.aggminvtransfn::oid, \
          a.aggmfinalfn::oid]) as part(code) \
      where a.aggfnoid::oid >= 16384 and part.code <> 0) \
    select distinct n.nspname, named.name, pg_get_userbyid(p.proowner), p.provolatile, \
      p.prosecdef, l.lanname \
    from named join pg_namespace n on n.oid = named.schema \
    join pg_proc p on p.oid = named.code join pg_language l on l.oid = p.prolang";

/// Reads them in the snapshot that `relations` was read in.
pub(super) async fn read(
    channel: &mut Channel,
    relations: &HashMap<u32, Relation>,
) -> Result<Objects, ForwardError> {
    let functions = query(channel, FUNCTIONS, function).await?;
    let called: HashSet<&str> = functions.iter().map(|f| &*f.name).collect();
    let mut known: HashMap<u32, KnownRelation> = HashMap::new();
    for (oid, owner, acts) in query(channel, RELATIONS, relation).await? {
        if let Some(relation) = relations.get(&oid)
            && counts(relation, acts)
        {
            let relation = KnownRelation {
                oid,
                schema: relation.schema.clone(),
                name: relation.name.clone(),
                owner,
                acts,
                reads: relation.reads.clone(),
                system: Vec::new(),
                parents: relation.parents.clone(),
                columns: columns_like(relation, &called),
            };
            known.insert(oid, relation);
        }
    }
    for (view, name) in query(channel, SYSTEM, system).await? {
        if let Some(relation) = known.get_mut(&view) {
            relation.system.push(name);
        }
    }
    Ok(Objects::new(known.into_values(), functions))
}

fn columns_like(relation: &Relation, functions: &HashSet<&str>) -> Vec<Box<str>> {
    let columns = relation.columns.values();
    columns
        .filter(|name| functions.contains(&***name))
        .cloned()
        .collect()
}

/// Temporary tables come and go, and nothing stands behind their names.
fn counts(relation: &Relation, acts: bool) -> bool {
    acts || !relation.reads.is_empty() || !relation.schema.starts_with("pg_temp_")
}

type Row<'a> = &'a [Option<Bytes>];

fn relation(row: Row<'_>) -> Option<(u32, Box<str>, bool)> {
    Some((number(row, 0)?, text(row, 1)?.into(), boolean(row, 2)?))
}

fn system(row: Row<'_>) -> Option<(u32, RelationName)> {
    let name = RelationName::new(Some(text(row, 1)?), text(row, 2)?);
    Some((number(row, 0)?, name))
}

fn function(row: Row<'_>) -> Option<KnownFunction> {
    Some(KnownFunction {
        schema: text(row, 0)?.into(),
        name: text(row, 1)?.into(),
        owner: text(row, 2)?.into(),
        volatility: match text(row, 3)? {
            "i" => Volatility::Immutable,
            "s" => Volatility::Stable,
            _ => Volatility::Volatile,
        },
        security_definer: boolean(row, 4)?,
        language: text(row, 5)?.into(),
    })
}

fn boolean(row: Row<'_>, column: usize) -> Option<bool> {
    Some(text(row, column)? == "t")
}
