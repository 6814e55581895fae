//! The entities of one question: who asks, and the object with all that it lies in.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};

use crate::decide::{Object, RelationName};
use crate::identify::Identity;

/// Where objects lie.
#[derive(Clone, Copy, Debug)]
pub(in crate::decide) struct Place<'a> {
    pub resource: &'a str,
    pub database: &'a str,
}

/// An entity could not be built. Names of types and attributes are constants, so this does not
/// happen; it refuses if it does.
#[derive(Debug, thiserror::Error)]
#[error("the question could not be put to the policies: {0}")]
pub(in crate::decide) struct Unaskable(pub String);

type Attributes = HashMap<String, RestrictedExpression>;

pub(super) fn agent(identity: &Identity) -> Result<(EntityUid, Vec<Entity>), Unaskable> {
    let id = uid("Agent", identity.agent().as_str())?;
    let groups = identity
        .groups()
        .iter()
        .map(|g| uid("Group", g))
        .collect::<Result<HashSet<_>, _>>()?;
    let mut attributes = Attributes::from([
        text("name", identity.agent().as_str()),
        text("issuer", identity.issuer().as_str()),
        text("kind", identity.kind().name()),
        text("subject", identity.subject()),
        text("client_id", identity.client_id()),
        (
            "verified".into(),
            RestrictedExpression::new_bool(identity.verified()),
        ),
    ]);
    attributes.insert(
        "scopes".into(),
        set(identity.scopes().iter().map(String::as_str)),
    );
    let mut all: Vec<_> = groups.iter().cloned().map(Entity::with_uid).collect();
    all.push(entity(id.clone(), attributes, groups)?);
    Ok((id, all))
}

/// The object as if it were in `schema`, and what it lies in.
pub(super) fn object(
    place: Place<'_>,
    object: &Object,
    schema: &str,
) -> Result<(EntityUid, Vec<Entity>), Unaskable> {
    let mut path = Path::new(place)?;
    let id = match object {
        Object::Server => path.resource.clone(),
        Object::Database => path.database.clone(),
        Object::Schema { name } => path.schema(name)?,
        Object::Table(RelationName { name, .. }) => path.within("Table", schema, None, name)?,
        Object::Function(RelationName { name, .. }) => {
            path.within("Function", schema, None, name)?
        }
        Object::Other { class, name, .. } => path.within("Object", schema, Some(class), name)?,
        Object::Setting { name } => path.setting(name)?,
    };
    Ok((id, path.all))
}

struct Path<'a> {
    place: Place<'a>,
    resource: EntityUid,
    database: EntityUid,
    all: Vec<Entity>,
}

impl<'a> Path<'a> {
    fn new(place: Place<'a>) -> Result<Self, Unaskable> {
        let resource = uid("Resource", &escape(place.resource))?;
        let database = uid("Database", &join(&[place.resource, place.database]))?;
        let of = |name, more: &[_]| {
            Attributes::from_iter([text("name", name)].into_iter().chain(more.iter().cloned()))
        };
        let all = vec![
            entity(resource.clone(), of(place.resource, &[]), HashSet::new())?,
            entity(
                database.clone(),
                of(place.database, &[text("resource", place.resource)]),
                HashSet::from([resource.clone()]),
            )?,
        ];
        Ok(Self {
            place,
            resource,
            database,
            all,
        })
    }

    fn attributes(&self, name: &str) -> Attributes {
        Attributes::from([
            text("name", name),
            text("database", self.place.database),
            text("resource", self.place.resource),
        ])
    }

    fn schema(&mut self, name: &str) -> Result<EntityUid, Unaskable> {
        let id = uid(
            "Schema",
            &join(&[self.place.resource, self.place.database, name]),
        )?;
        let within = HashSet::from([self.database.clone()]);
        self.all
            .push(entity(id.clone(), self.attributes(name), within)?);
        Ok(id)
    }

    fn setting(&mut self, name: &str) -> Result<EntityUid, Unaskable> {
        let id = uid(
            "Setting",
            &join(&[self.place.resource, self.place.database, name]),
        )?;
        let within = HashSet::from([self.database.clone()]);
        self.all
            .push(entity(id.clone(), self.attributes(name), within)?);
        Ok(id)
    }

    fn within(
        &mut self,
        kind: &str,
        schema: &str,
        class: Option<&str>,
        name: &str,
    ) -> Result<EntityUid, Unaskable> {
        let parent = self.schema(schema)?;
        let mut parts = vec![self.place.resource, self.place.database, schema];
        parts.extend(class);
        parts.push(name);
        let id = uid(kind, &join(&parts))?;
        let mut attributes = self.attributes(name);
        attributes.extend([text("schema", schema)]);
        attributes.extend(class.map(|class| text("class", class)));
        self.all
            .push(entity(id.clone(), attributes, HashSet::from([parent]))?);
        Ok(id)
    }
}

/// Parts of an id are told apart by slashes, which therefore cannot stand in a part.
pub(super) fn join(parts: &[&str]) -> String {
    let parts: Vec<_> = parts.iter().map(|part| escape(part)).collect();
    parts.join("/")
}

pub(super) fn escape(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F")
}

/// A host as the client calls it, and what it lies in.
pub(super) fn host(
    resource: &str,
    name: &str,
    login: &str,
) -> Result<(EntityUid, [Entity; 2]), Unaskable> {
    let within = uid("Resource", &escape(resource))?;
    let named = HashMap::from([text("name", resource)]);
    let parent = entity(within.clone(), named, HashSet::new())?;
    let id = uid("Host", &join(&[resource, name]))?;
    let attributes = HashMap::from([
        text("name", name),
        text("resource", resource),
        text("login", login),
    ]);
    let host = entity(id.clone(), attributes, HashSet::from([within]))?;
    Ok((id, [parent, host]))
}

pub(super) fn uid(kind: &str, id: &str) -> Result<EntityUid, Unaskable> {
    let kind: EntityTypeName = kind
        .parse()
        .map_err(|e| Unaskable(format!("{kind}: {e}")))?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

pub(super) fn entity(
    id: EntityUid,
    attributes: Attributes,
    parents: HashSet<EntityUid>,
) -> Result<Entity, Unaskable> {
    Entity::new(id, attributes, parents).map_err(|e| Unaskable(e.to_string()))
}

pub(super) fn text(name: &str, value: &str) -> (String, RestrictedExpression) {
    (
        name.to_owned(),
        RestrictedExpression::new_string(value.to_owned()),
    )
}

pub(super) fn set<'a>(values: impl Iterator<Item = &'a str>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.map(|v| RestrictedExpression::new_string(v.to_owned())))
}
