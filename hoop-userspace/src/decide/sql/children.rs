//! The children of every node that PostgreSQL's raw grammar makes.
//!
//! One line per kind, so that a kind or a field that is missing is seen; a kind without a line is
//! not understood, and a statement that holds one is refused.

use pg_raw_parse::Node;
use pg_raw_parse::list::{CastNodeList, NodeList};

/// A node that is not known: what it would do is not either.
#[derive(Debug)]
pub(super) struct UnknownNode;

/// Collects children in the order of the grammar's fields.
#[derive(Default)]
pub(super) struct Children<'a>(pub Vec<Node<'a>>);

impl<'a> Children<'a> {
    pub(super) fn one(&mut self, node: impl Into<Node<'a>>) {
        match node.into() {
            Node::None => {}
            node => self.0.push(node),
        }
    }

    pub(super) fn all(&mut self, list: &'a NodeList) {
        list.iter().for_each(|node| self.one(node));
    }

    pub(super) fn cast<T>(&mut self, list: &'a CastNodeList<T>)
    where
        &'a CastNodeList<T>: IntoIterator<Item = &'a T>,
        Node<'a>: From<&'a T>,
    {
        list.into_iter().for_each(|node| self.one(node));
    }
}

/// Adds a node's children to `to`.
#[rustfmt::skip]
pub(super) fn children<'a>(node: Node<'a>, to: &mut Children<'a>) -> Result<(), UnknownNode> {
    match node {
        Node::None => {}
        Node::NodeList(list) => to.all(list),
        // Leaves.
        Node::MergeSupportFunc(_)
        | Node::ATAlterConstraint(_)
        | Node::SQLValueFunction(_)
        | Node::JsonFormat(_)
        | Node::SetToDefault(_)
        | Node::CurrentOfExpr(_)
        | Node::Integer(_)
        | Node::Float(_)
        | Node::Boolean(_)
        | Node::String(_)
        | Node::BitString(_)
        | Node::ParamRef(_)
        | Node::A_Const(_)
        | Node::RoleSpec(_)
        | Node::A_Star(_)
        | Node::ReturningOption(_)
        | Node::TriggerTransition(_)
        | Node::ReplicaIdentityStmt(_)
        | Node::AccessPriv(_)
        | Node::VariableShowStmt(_)
        | Node::DropTableSpaceStmt(_)
        | Node::AlterEventTrigStmt(_)
        | Node::CreateOpFamilyStmt(_)
        | Node::ClosePortalStmt(_)
        | Node::FetchStmt(_)
        | Node::NotifyStmt(_)
        | Node::ListenStmt(_)
        | Node::UnlistenStmt(_)
        | Node::CreateEnumStmt(_)
        | Node::AlterEnumStmt(_)
        | Node::LoadStmt(_)
        | Node::AlterDatabaseRefreshCollStmt(_)
        | Node::CheckPointStmt(_)
        | Node::DiscardStmt(_)
        | Node::DeallocateStmt(_)
        | Node::DropSubscriptionStmt(_) => {}
        Node::Alias(n) => { to.all(n.colnames()); }
        Node::RangeVar(n) => { to.one(n.alias()); }
        Node::IntoClause(n) => { to.one(n.rel()); to.all(n.col_names()); to.all(n.options()); }
        Node::GroupingFunc(n) => { to.all(n.args()); to.all(n.refs()); to.all(n.cols()); }
        Node::NamedArgExpr(n) => { to.one(n.arg()); }
        Node::BoolExpr(n) => { to.all(n.args()); }
        Node::SubLink(n) => { to.one(n.testexpr()); to.all(n.oper_name()); to.one(n.subselect()); }
        Node::CaseExpr(n) => { to.one(n.arg()); to.all(n.args()); to.one(n.defresult()); }
        Node::CaseWhen(n) => { to.one(n.expr()); to.one(n.result()); }
        Node::RowExpr(n) => { to.all(n.args()); }
        Node::CoalesceExpr(n) => { to.all(n.args()); }
        Node::MinMaxExpr(n) => { to.all(n.args()); }
        Node::XmlExpr(n) => { to.all(n.named_args()); to.all(n.args()); }
        Node::JsonReturning(n) => { to.one(n.format()); }
        Node::JsonValueExpr(n) => { to.one(n.raw_expr()); to.one(n.formatted_expr()); to.one(n.format()); }
        Node::JsonIsPredicate(n) => { to.one(n.expr()); to.one(n.format()); }
        Node::JsonBehavior(n) => { to.one(n.expr()); }
        Node::NullTest(n) => { to.one(n.arg()); }
        Node::BooleanTest(n) => { to.one(n.arg()); }
        Node::JoinExpr(n) => { to.one(n.larg()); to.one(n.rarg()); to.one(n.join_using_alias()); to.one(n.quals()); to.one(n.alias()); }
        Node::TypeName(n) => { to.all(n.typmods()); to.all(n.array_bounds()); }
        Node::ColumnRef(n) => { to.all(n.fields()); }
        Node::A_Expr(n) => { to.all(n.name()); to.one(n.lexpr()); to.one(n.rexpr()); }
        Node::TypeCast(n) => { to.one(n.arg()); to.one(n.type_name()); }
        Node::CollateClause(n) => { to.one(n.arg()); to.all(n.collname()); }
        Node::FuncCall(n) => { to.all(n.funcname()); to.all(n.args()); to.cast(n.agg_order()); to.one(n.agg_filter()); to.one(n.over()); }
        Node::A_Indices(n) => { to.one(n.lidx()); to.one(n.uidx()); }
        Node::A_Indirection(n) => { to.one(n.arg()); to.all(n.indirection()); }
        Node::A_ArrayExpr(n) => { to.all(n.elements()); }
        Node::ResTarget(n) => { to.all(n.indirection()); to.one(n.val()); }
        Node::MultiAssignRef(n) => { to.one(n.source()); }
        Node::SortBy(n) => { to.one(n.node()); to.all(n.use_op()); }
        Node::WindowDef(n) => { to.all(n.partition_clause()); to.cast(n.order_clause()); to.one(n.start_offset()); to.one(n.end_offset()); }
        Node::RangeSubselect(n) => { to.one(n.subquery()); to.one(n.alias()); }
        Node::RangeFunction(n) => { to.all(n.functions()); to.one(n.alias()); to.cast(n.coldeflist()); }
        Node::RangeTableFunc(n) => { to.one(n.docexpr()); to.one(n.rowexpr()); to.all(n.namespaces()); to.cast(n.columns()); to.one(n.alias()); }
        Node::RangeTableFuncCol(n) => { to.one(n.type_name()); to.one(n.colexpr()); to.one(n.coldefexpr()); }
        Node::RangeTableSample(n) => { to.one(n.relation()); to.all(n.method()); to.all(n.args()); to.one(n.repeatable()); }
        Node::ColumnDef(n) => { to.one(n.type_name()); to.one(n.raw_default()); to.one(n.cooked_default()); to.one(n.identity_sequence()); to.one(n.coll_clause()); to.all(n.constraints()); to.all(n.fdwoptions()); }
        Node::TableLikeClause(n) => { to.one(n.relation()); }
        Node::IndexElem(n) => { to.one(n.expr()); to.all(n.collation()); to.all(n.opclass()); to.all(n.opclassopts()); }
        Node::DefElem(n) => { to.one(n.arg()); }
        Node::LockingClause(n) => { to.all(n.locked_rels()); }
        Node::XmlSerialize(n) => { to.one(n.expr()); to.one(n.type_name()); }
        Node::PartitionElem(n) => { to.one(n.expr()); to.all(n.collation()); to.all(n.opclass()); }
        Node::PartitionSpec(n) => { to.cast(n.part_params()); }
        Node::PartitionBoundSpec(n) => { to.all(n.listdatums()); to.all(n.lowerdatums()); to.all(n.upperdatums()); }
        Node::PartitionRangeDatum(n) => { to.one(n.value()); }
        Node::PartitionCmd(n) => { to.one(n.name()); to.one(n.bound()); }
        Node::GroupingSet(n) => { to.all(n.content()); }
        Node::WithClause(n) => { to.cast(n.ctes()); }
        Node::InferClause(n) => { to.all(n.index_elems()); to.one(n.where_clause()); }
        Node::OnConflictClause(n) => { to.one(n.infer()); to.cast(n.target_list()); to.one(n.where_clause()); }
        Node::CTESearchClause(n) => { to.all(n.search_col_list()); }
        Node::CTECycleClause(n) => { to.all(n.cycle_col_list()); to.one(n.cycle_mark_value()); to.one(n.cycle_mark_default()); }
        Node::CommonTableExpr(n) => { to.all(n.aliascolnames()); to.one(n.ctequery()); to.one(n.search_clause()); to.one(n.cycle_clause()); to.all(n.ctecolnames()); }
        Node::MergeWhenClause(n) => { to.one(n.condition()); to.all(n.target_list()); to.all(n.values()); }
        Node::ReturningClause(n) => { to.cast(n.options()); to.all(n.exprs()); }
        Node::JsonOutput(n) => { to.one(n.type_name()); to.one(n.returning()); }
        Node::JsonArgument(n) => { to.one(n.val()); }
        Node::JsonFuncExpr(n) => { to.one(n.context_item()); to.one(n.pathspec()); to.all(n.passing()); to.one(n.output()); to.one(n.on_empty()); to.one(n.on_error()); }
        Node::JsonTablePathSpec(n) => { to.one(n.string()); }
        Node::JsonTable(n) => { to.one(n.context_item()); to.one(n.pathspec()); to.all(n.passing()); to.cast(n.columns()); to.one(n.on_error()); to.one(n.alias()); }
        Node::JsonTableColumn(n) => { to.one(n.type_name()); to.one(n.pathspec()); to.one(n.format()); to.all(n.columns()); to.one(n.on_empty()); to.one(n.on_error()); }
        Node::JsonKeyValue(n) => { to.one(n.key()); to.one(n.value()); }
        Node::JsonParseExpr(n) => { to.one(n.expr()); to.one(n.output()); }
        Node::JsonScalarExpr(n) => { to.one(n.expr()); to.one(n.output()); }
        Node::JsonSerializeExpr(n) => { to.one(n.expr()); to.one(n.output()); }
        Node::JsonObjectConstructor(n) => { to.cast(n.exprs()); to.one(n.output()); }
        Node::JsonArrayConstructor(n) => { to.cast(n.exprs()); to.one(n.output()); }
        Node::JsonArrayQueryConstructor(n) => { to.one(n.query()); to.one(n.output()); to.one(n.format()); }
        Node::JsonAggConstructor(n) => { to.one(n.output()); to.one(n.agg_filter()); to.all(n.agg_order()); to.one(n.over()); }
        Node::JsonObjectAgg(n) => { to.one(n.constructor()); to.one(n.arg()); }
        Node::JsonArrayAgg(n) => { to.one(n.constructor()); to.one(n.arg()); }
        Node::InsertStmt(n) => { to.one(n.relation()); to.all(n.cols()); to.one(n.select_stmt()); to.one(n.on_conflict_clause()); to.one(n.returning_clause()); to.one(n.with_clause()); }
        Node::DeleteStmt(n) => { to.one(n.relation()); to.all(n.using_clause()); to.one(n.where_clause()); to.one(n.returning_clause()); to.one(n.with_clause()); }
        Node::UpdateStmt(n) => { to.one(n.relation()); to.cast(n.target_list()); to.one(n.where_clause()); to.all(n.from_clause()); to.one(n.returning_clause()); to.one(n.with_clause()); }
        Node::MergeStmt(n) => { to.one(n.relation()); to.one(n.source_relation()); to.one(n.join_condition()); to.cast(n.merge_when_clauses()); to.one(n.returning_clause()); to.one(n.with_clause()); }
        Node::SelectStmt(n) => { to.all(n.distinct_clause()); to.one(n.into_clause()); to.cast(n.target_list()); to.all(n.from_clause()); to.one(n.where_clause()); to.all(n.group_clause()); to.one(n.having_clause()); to.all(n.window_clause()); to.all(n.values_lists()); to.cast(n.sort_clause()); to.one(n.limit_offset()); to.one(n.limit_count()); to.cast(n.locking_clause()); to.one(n.with_clause()); to.one(n.larg()); to.one(n.rarg()); }
        Node::ReturnStmt(n) => { to.one(n.returnval()); }
        Node::CreateSchemaStmt(n) => { to.one(n.authrole()); to.all(n.schema_elts()); }
        Node::AlterTableStmt(n) => { to.one(n.relation()); to.all(n.cmds()); }
        Node::AlterTableCmd(n) => { to.one(n.newowner()); to.one(n.def()); }
        Node::AlterCollationStmt(n) => { to.all(n.collname()); }
        Node::AlterDomainStmt(n) => { to.all(n.type_name()); to.one(n.def()); }
        Node::GrantStmt(n) => { to.cast(n.privileges()); to.cast(n.grantees()); to.one(n.grantor()); }
        Node::ObjectWithArgs(n) => { to.all(n.objname()); to.all(n.objargs()); to.cast(n.objfuncargs()); }
        Node::GrantRoleStmt(n) => { to.all(n.granted_roles()); to.all(n.grantee_roles()); to.all(n.opt()); to.one(n.grantor()); }
        Node::AlterDefaultPrivilegesStmt(n) => { to.cast(n.options()); to.one(n.action()); }
        Node::CopyStmt(n) => { to.one(n.relation()); to.one(n.query()); to.all(n.attlist()); to.cast(n.options()); to.one(n.where_clause()); }
        Node::VariableSetStmt(n) => { to.all(n.args()); }
        Node::CreateStmt(n) => { to.one(n.relation()); to.all(n.table_elts()); to.all(n.inh_relations()); to.one(n.partbound()); to.one(n.partspec()); to.one(n.of_typename()); to.cast(n.constraints()); to.all(n.nnconstraints()); to.all(n.options()); }
        Node::Constraint(n) => { to.one(n.raw_expr()); to.all(n.keys()); to.all(n.including()); to.all(n.exclusions()); to.all(n.options()); to.one(n.where_clause()); to.one(n.pktable()); to.all(n.fk_attrs()); to.all(n.pk_attrs()); to.all(n.fk_del_set_cols()); to.all(n.old_conpfeqop()); }
        Node::CreateTableSpaceStmt(n) => { to.one(n.owner()); to.all(n.options()); }
        Node::AlterTableSpaceOptionsStmt(n) => { to.all(n.options()); }
        Node::AlterTableMoveAllStmt(n) => { to.all(n.roles()); }
        Node::CreateExtensionStmt(n) => { to.cast(n.options()); }
        Node::AlterExtensionStmt(n) => { to.cast(n.options()); }
        Node::AlterExtensionContentsStmt(n) => { to.one(n.object()); }
        Node::CreateFdwStmt(n) => { to.all(n.func_options()); to.all(n.options()); }
        Node::AlterFdwStmt(n) => { to.all(n.func_options()); to.all(n.options()); }
        Node::CreateForeignServerStmt(n) => { to.all(n.options()); }
        Node::AlterForeignServerStmt(n) => { to.all(n.options()); }
        Node::CreateUserMappingStmt(n) => { to.one(n.user()); to.all(n.options()); }
        Node::AlterUserMappingStmt(n) => { to.one(n.user()); to.all(n.options()); }
        Node::DropUserMappingStmt(n) => { to.one(n.user()); }
        Node::ImportForeignSchemaStmt(n) => { to.cast(n.table_list()); to.all(n.options()); }
        Node::CreatePolicyStmt(n) => { to.one(n.table()); to.all(n.roles()); to.one(n.qual()); to.one(n.with_check()); }
        Node::AlterPolicyStmt(n) => { to.one(n.table()); to.all(n.roles()); to.one(n.qual()); to.one(n.with_check()); }
        Node::CreateAmStmt(n) => { to.all(n.handler_name()); }
        Node::CreateTrigStmt(n) => { to.one(n.relation()); to.all(n.funcname()); to.all(n.columns()); to.one(n.when_clause()); to.all(n.transition_rels()); to.one(n.constrrel()); }
        Node::CreateEventTrigStmt(n) => { to.cast(n.whenclause()); to.all(n.funcname()); }
        Node::CreatePLangStmt(n) => { to.all(n.plhandler()); to.all(n.plinline()); to.all(n.plvalidator()); }
        Node::CreateRoleStmt(n) => { to.cast(n.options()); }
        Node::AlterRoleStmt(n) => { to.one(n.role()); to.cast(n.options()); }
        Node::AlterRoleSetStmt(n) => { to.one(n.role()); to.one(n.setstmt()); }
        Node::DropRoleStmt(n) => { to.all(n.roles()); }
        Node::CreateSeqStmt(n) => { to.one(n.sequence()); to.all(n.options()); }
        Node::AlterSeqStmt(n) => { to.one(n.sequence()); to.all(n.options()); }
        Node::DefineStmt(n) => { to.all(n.args()); to.cast(n.definition()); }
        Node::CreateDomainStmt(n) => { to.one(n.type_name()); to.one(n.coll_clause()); to.cast(n.constraints()); }
        Node::CreateOpClassStmt(n) => { to.all(n.opfamilyname()); to.one(n.datatype()); to.cast(n.items()); }
        Node::CreateOpClassItem(n) => { to.one(n.name()); to.all(n.order_family()); to.all(n.class_args()); to.one(n.storedtype()); }
        Node::AlterOpFamilyStmt(n) => { to.cast(n.items()); }
        Node::DropStmt(n) => { to.all(n.objects()); }
        Node::TruncateStmt(n) => { to.all(n.relations()); }
        Node::CommentStmt(n) => { to.one(n.object()); }
        Node::SecLabelStmt(n) => { to.one(n.object()); }
        Node::DeclareCursorStmt(n) => { to.one(n.query()); }
        Node::IndexStmt(n) => { to.one(n.relation()); to.cast(n.index_params()); to.all(n.index_including_params()); to.cast(n.options()); to.one(n.where_clause()); to.all(n.exclude_op_names()); }
        // The list is said to hold names, and may hold joins: `definition` looks at the table alone.
        Node::CreateStatsStmt(n) => { to.cast(n.relations()); to.all(n.exprs()); }
        Node::StatsElem(n) => { to.one(n.expr()); }
        Node::AlterStatsStmt(n) => { to.one(n.stxstattarget()); }
        Node::CreateFunctionStmt(n) => { to.all(n.funcname()); to.cast(n.parameters()); to.one(n.return_type()); to.cast(n.options()); to.one(n.sql_body()); }
        Node::FunctionParameter(n) => { to.one(n.arg_type()); to.one(n.defexpr()); }
        Node::AlterFunctionStmt(n) => { to.one(n.func()); to.cast(n.actions()); }
        Node::DoStmt(n) => { to.cast(n.args()); }
        Node::CallStmt(n) => { to.one(n.funccall()); to.all(n.outargs()); }
        Node::RenameStmt(n) => { to.one(n.relation()); to.one(n.object()); }
        Node::AlterObjectDependsStmt(n) => { to.one(n.relation()); to.one(n.object()); }
        Node::AlterObjectSchemaStmt(n) => { to.one(n.relation()); to.one(n.object()); }
        Node::AlterOwnerStmt(n) => { to.one(n.relation()); to.one(n.object()); to.one(n.newowner()); }
        Node::AlterOperatorStmt(n) => { to.one(n.opername()); to.cast(n.options()); }
        Node::AlterTypeStmt(n) => { to.all(n.type_name()); to.cast(n.options()); }
        Node::RuleStmt(n) => { to.one(n.relation()); to.one(n.where_clause()); to.all(n.actions()); }
        Node::TransactionStmt(n) => { to.all(n.options()); }
        Node::CompositeTypeStmt(n) => { to.one(n.typevar()); to.cast(n.coldeflist()); }
        Node::CreateRangeStmt(n) => { to.cast(n.params()); }
        Node::ViewStmt(n) => { to.one(n.view()); to.all(n.aliases()); to.one(n.query()); to.all(n.options()); }
        Node::CreatedbStmt(n) => { to.cast(n.options()); }
        Node::AlterDatabaseStmt(n) => { to.cast(n.options()); }
        Node::AlterDatabaseSetStmt(n) => { to.one(n.setstmt()); }
        Node::DropdbStmt(n) => { to.all(n.options()); }
        Node::AlterSystemStmt(n) => { to.one(n.setstmt()); }
        Node::ClusterStmt(n) => { to.one(n.relation()); to.cast(n.params()); }
        Node::VacuumStmt(n) => { to.cast(n.options()); to.cast(n.rels()); }
        Node::VacuumRelation(n) => { to.one(n.relation()); to.all(n.va_cols()); }
        Node::ExplainStmt(n) => { to.one(n.query()); to.cast(n.options()); }
        Node::CreateTableAsStmt(n) => { to.one(n.query()); to.one(n.into()); }
        Node::RefreshMatViewStmt(n) => { to.one(n.relation()); }
        Node::LockStmt(n) => { to.all(n.relations()); }
        Node::ConstraintsSetStmt(n) => { to.all(n.constraints()); }
        Node::ReindexStmt(n) => { to.one(n.relation()); to.cast(n.params()); }
        Node::CreateConversionStmt(n) => { to.all(n.conversion_name()); to.all(n.func_name()); }
        Node::CreateCastStmt(n) => { to.one(n.sourcetype()); to.one(n.targettype()); to.one(n.func()); }
        Node::CreateTransformStmt(n) => { to.one(n.type_name()); to.one(n.fromsql()); to.one(n.tosql()); }
        Node::PrepareStmt(n) => { to.cast(n.argtypes()); to.one(n.query()); }
        Node::ExecuteStmt(n) => { to.all(n.params()); }
        Node::DropOwnedStmt(n) => { to.all(n.roles()); }
        Node::ReassignOwnedStmt(n) => { to.all(n.roles()); to.one(n.newrole()); }
        Node::AlterTSDictionaryStmt(n) => { to.cast(n.options()); }
        Node::AlterTSConfigurationStmt(n) => { to.all(n.tokentype()); to.all(n.dicts()); }
        Node::PublicationTable(n) => { to.one(n.relation()); to.one(n.where_clause()); to.all(n.columns()); }
        Node::PublicationObjSpec(n) => { to.one(n.pubtable()); }
        Node::CreatePublicationStmt(n) => { to.cast(n.options()); to.all(n.pubobjects()); }
        Node::AlterPublicationStmt(n) => { to.cast(n.options()); to.all(n.pubobjects()); }
        Node::CreateSubscriptionStmt(n) => { to.all(n.publication()); to.cast(n.options()); }
        Node::AlterSubscriptionStmt(n) => { to.all(n.publication()); to.cast(n.options()); }
        _ => return Err(UnknownNode),
    }
    Ok(())
}
