//! What one file of Rust says of itself, read from its syntax tree. What is compiled for tests only is left out.

use std::collections::BTreeMap;
use std::mem;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{
    Attribute, Expr, ExprCall, ExprMethodCall, ExprPath, Field, FieldValue, Ident, ImplItem, ImplItemFn, Item, ItemFn,
    ItemImpl, ItemMod, ItemStruct, ItemTrait, ItemUnion, Local, Macro, Meta, Path, Signature, StmtMacro, TraitItem,
    TraitItemFn, Type, Visibility,
};

/// How far away a thing can be named from, by its keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// No keyword, or one that leads no further than the file.
    File,
    /// `pub(super)`, `pub(in ...)`
    Room,
    /// `pub(crate)`
    Crate,
    /// `pub`
    Public,
}

/// A function, or the declaration of one in a trait.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    /// From its `fn` to its last brace.
    pub(super) lines: usize,
    /// With `self`.
    pub(super) arguments: usize,
    pub(super) reach: Reach,
    /// A trait asks for it, so that what calls it cannot be told by its name.
    pub(super) of_trait: bool,
}

/// An item, a method, a constant or a field with a keyword that shows it to other files.
#[derive(Debug)]
pub(super) struct Visible {
    pub(super) line: usize,
    pub(super) what: String,
    pub(super) reach: Reach,
}

/// A field of a struct or union.
#[derive(Debug)]
pub(super) struct StructField {
    /// The type's name.
    pub(super) owner: String,
    /// Its own; that of a tuple's field is `_`.
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) reach: Reach,
}

/// A file of `src/`.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// From the root of the repository.
    pub(super) file: String,
    /// As the reader of arrows names it: `tcp/seq`, and `tcp` for `tcp/mod.rs`.
    pub(super) module: String,
    pub(super) functions: Vec<Function>,
    pub(super) visible: Vec<Visible>,
    pub(super) fields: Vec<StructField>,
    /// Names of structs.
    pub(super) structs: Vec<String>,
    /// The types of its `impl` blocks, with their lines.
    pub(super) impls: Vec<(String, usize)>,
    /// Whether it has modules in files of their own, which see whatever it has.
    pub(super) has_children: bool,
    /// How often a name is called, or mentioned behind `::`.
    pub(super) calls: BTreeMap<String, usize>,
}

impl Source {
    /// Reads a file of `src/`, given its path from the root. What is no Rust is named by its line.
    pub(super) fn read(file: String, module: String, text: &str) -> Result<Self, String> {
        let tree = syn::parse_file(text).map_err(|e| format!("{file}:{}: {e}", e.span().start().line))?;
        let source = Self { file, module, ..Self::default() };
        let mut reader = Reader { source, depth: 0, in_trait: false, owner: String::new() };
        reader.visit_file(&tree);
        Ok(reader.source)
    }

    /// Whether it is that module or below it.
    pub(super) fn is_within(&self, module: &str) -> bool {
        self.module.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// A walk through the syntax tree.
struct Reader {
    source: Source,
    /// How many inline modules are around.
    depth: usize,
    in_trait: bool,
    /// The type whose fields are being read.
    owner: String,
}

impl Reader {
    fn reach(&self, visibility: &Visibility) -> Reach {
        let restricted = match visibility {
            Visibility::Public(_) => return Reach::Public,
            Visibility::Inherited => return Reach::File,
            Visibility::Restricted(restricted) => restricted,
        };
        if restricted.path.is_ident("crate") {
            return Reach::Crate;
        }
        let segments = || restricted.path.segments.iter();
        let upward = segments().filter(|segment| segment.ident == "super").count();
        let is_relative = segments().all(|segment| segment.ident == "super" || segment.ident == "self");
        if is_relative && upward <= self.depth { Reach::File } else { Reach::Room }
    }

    fn show(&mut self, kind: &str, name: &str, line: usize, visibility: &Visibility) {
        let reach = self.reach(visibility);
        if reach != Reach::File {
            self.source.visible.push(Visible { line, what: format!("{kind} {name}"), reach });
        }
    }

    fn function(&mut self, signature: &Signature, reach: Reach, of_trait: bool, last_line: usize) {
        let line = signature.fn_token.span.start().line;
        self.source.functions.push(Function {
            name: signature.ident.to_string(),
            line,
            lines: (last_line + 1).saturating_sub(line),
            arguments: signature.inputs.len(),
            reach,
            of_trait,
        });
    }

    /// Walks through a function's body: what is declared in there is of no trait.
    fn outside_traits(&mut self, walk: impl FnOnce(&mut Self)) {
        let in_trait = mem::take(&mut self.in_trait);
        walk(self);
        self.in_trait = in_trait;
    }

    fn call(&mut self, name: &Ident) {
        *self.source.calls.entry(name.to_string()).or_default() += 1;
    }

    /// Calls in the arguments of a macro, which are no tree.
    fn calls_in_tokens(&mut self, tokens: TokenStream) {
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        let joins = |place: usize| {
            let is_colon = |tree: Option<&TokenTree>| matches!(tree, Some(TokenTree::Punct(p)) if p.as_char() == ':');
            is_colon(trees.get(place)) && is_colon(trees.get(place + 1))
        };
        for (place, tree) in trees.iter().enumerate() {
            match tree {
                TokenTree::Group(group) => self.calls_in_tokens(group.stream()),
                TokenTree::Ident(name) => {
                    let arguments = trees.get(place + 1);
                    let is_called = matches!(arguments, Some(TokenTree::Group(group))
                        if group.delimiter() == Delimiter::Parenthesis);
                    let ends_a_path = place >= 2 && joins(place - 2) && !joins(place + 1);
                    let is_declared = place > 0 && matches!(&trees[place - 1], TokenTree::Ident(word) if word == "fn");
                    if (is_called || ends_a_path) && !is_declared {
                        self.call(name);
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    /// Names in attributes call nothing.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        if let Some((kind, name, visibility)) = named(item) {
            self.show(kind, &name.to_string(), name.span().start().line, visibility);
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.source.has_children |= item.content.is_none();
        self.depth += 1;
        visit::visit_item_mod(self, item);
        self.depth -= 1;
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if let Type::Path(of) = &*item.self_ty
            && let Some(name) = last(&of.path)
        {
            self.source.impls.push((name.to_string(), item.impl_token.span.start().line));
        }
        let around = mem::replace(&mut self.in_trait, item.trait_.is_some());
        visit::visit_item_impl(self, item);
        self.in_trait = around;
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        let around = mem::replace(&mut self.in_trait, true);
        visit::visit_item_trait(self, item);
        self.in_trait = around;
    }

    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        self.source.structs.push(item.ident.to_string());
        self.owner = item.ident.to_string();
        visit::visit_item_struct(self, item);
        self.owner.clear();
    }

    fn visit_item_union(&mut self, item: &'ast ItemUnion) {
        self.owner = item.ident.to_string();
        visit::visit_item_union(self, item);
        self.owner.clear();
    }

    /// Those of an enum's variants have no keyword, and no owner here.
    fn visit_field(&mut self, field: &'ast Field) {
        if is_for_tests(&field.attrs) {
            return;
        }
        if !self.owner.is_empty() {
            let reach = self.reach(&field.vis);
            let (name, line) = match (&field.ident, first_line(&field.vis)) {
                (Some(name), _) => (name.to_string(), name.span().start().line),
                (None, line) => ("_".to_owned(), line),
            };
            self.show("field", &format!("{}.{name}", self.owner), line, &field.vis);
            self.source.fields.push(StructField { owner: self.owner.clone(), name, line, reach });
        }
        visit::visit_field(self, field);
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        let last_line = item.block.brace_token.span.close().end().line;
        self.function(&item.sig, self.reach(&item.vis), false, last_line);
        self.outside_traits(|reader| visit::visit_item_fn(reader, item));
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let (attributes, shown) = match item {
            ImplItem::Fn(item) => (&item.attrs, Some(("fn", &item.sig.ident, &item.vis))),
            ImplItem::Const(item) => (&item.attrs, Some(("const", &item.ident, &item.vis))),
            ImplItem::Type(item) => (&item.attrs, Some(("type", &item.ident, &item.vis))),
            ImplItem::Macro(item) => (&item.attrs, None),
            _ => return,
        };
        if is_for_tests(attributes) {
            return;
        }
        if let Some((kind, name, visibility)) = shown {
            self.show(kind, &name.to_string(), name.span().start().line, visibility);
        }
        visit::visit_impl_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        let last_line = item.block.brace_token.span.close().end().line;
        self.function(&item.sig, self.reach(&item.vis), self.in_trait, last_line);
        self.outside_traits(|reader| visit::visit_impl_item_fn(reader, item));
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let attributes = match item {
            TraitItem::Fn(item) => &item.attrs,
            TraitItem::Const(item) => &item.attrs,
            TraitItem::Type(item) => &item.attrs,
            TraitItem::Macro(item) => &item.attrs,
            _ => return,
        };
        if !is_for_tests(attributes) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        let end = item.default.as_ref().map_or(item.sig.paren_token.span, |block| block.brace_token.span);
        self.function(&item.sig, Reach::Public, true, end.close().end().line);
        self.outside_traits(|reader| visit::visit_trait_item_fn(reader, item));
    }

    fn visit_local(&mut self, local: &'ast Local) {
        if !is_for_tests(&local.attrs) {
            visit::visit_local(self, local);
        }
    }

    fn visit_field_value(&mut self, value: &'ast FieldValue) {
        if !is_for_tests(&value.attrs) {
            visit::visit_field_value(self, value);
        }
    }

    fn visit_stmt_macro(&mut self, statement: &'ast StmtMacro) {
        if !is_for_tests(&statement.attrs) {
            visit::visit_stmt_macro(self, statement);
        }
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        // A longer path is counted wherever it stands; a name alone may be a variable unless it is called.
        if let Expr::Path(function) = &*call.func
            && let Some(name) = last(&function.path).filter(|_| function.path.segments.len() == 1)
        {
            self.call(name);
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        self.call(&call.method);
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_path(&mut self, path: &'ast ExprPath) {
        if let Some(name) = last(&path.path).filter(|_| path.path.segments.len() > 1) {
            self.call(name);
        }
        visit::visit_expr_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast Macro) {
        self.calls_in_tokens(invocation.tokens.clone());
    }
}

fn last(path: &Path) -> Option<&Ident> {
    path.segments.last().map(|segment| &segment.ident)
}

/// The line of a keyword; 0: there is none.
fn first_line(visibility: &Visibility) -> usize {
    match visibility {
        Visibility::Public(keyword) => keyword.span.start().line,
        Visibility::Restricted(restricted) => restricted.pub_token.span.start().line,
        Visibility::Inherited => 0,
    }
}

/// An item that is a thing of its own: modules and `use` declarations only lead to others.
fn named(item: &Item) -> Option<(&'static str, &Ident, &Visibility)> {
    match item {
        Item::Const(item) => Some(("const", &item.ident, &item.vis)),
        Item::Enum(item) => Some(("enum", &item.ident, &item.vis)),
        Item::Fn(item) => Some(("fn", &item.sig.ident, &item.vis)),
        Item::Static(item) => Some(("static", &item.ident, &item.vis)),
        Item::Struct(item) => Some(("struct", &item.ident, &item.vis)),
        Item::Trait(item) => Some(("trait", &item.ident, &item.vis)),
        Item::Type(item) => Some(("type", &item.ident, &item.vis)),
        Item::Union(item) => Some(("union", &item.ident, &item.vis)),
        _ => None,
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether one of them is `#[test]` or a `cfg` that asks for tests.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) => list.path.is_ident("cfg") && asks_for_tests(list.tokens.clone()),
        Meta::NameValue(_) => false,
    })
}

fn asks_for_tests(condition: TokenStream) -> bool {
    let mut is_negated = false;
    for tree in condition {
        match tree {
            TokenTree::Ident(word) if word == "test" => return true,
            TokenTree::Ident(word) => is_negated = word == "not",
            TokenTree::Group(group) if !is_negated && asks_for_tests(group.stream()) => return true,
            _ => is_negated = false,
        }
    }
    false
}
