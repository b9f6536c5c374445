//! One module a subject; `support` has shared fixtures. Modules that need the sandbox's servers are
//! built with the feature `demo`.

mod answer_schema;
mod body;
#[cfg(feature = "demo")]
mod cli_checkout;
mod cli_local;
mod cli_support;
#[cfg(feature = "demo")]
mod cli_tags;
mod cluster;
mod cluster_real;
#[cfg(feature = "demo")]
mod cluster_silence;
mod declare_cases;
#[cfg(feature = "demo")]
mod demo;
#[cfg(feature = "demo")]
mod exit_codes;
mod examples;
mod forge_comments;
mod forge_github;
mod forge_github_reviews;
mod forge_gitlab;
mod health_tables;
#[cfg(feature = "demo")]
mod forge_real;
#[cfg(feature = "demo")]
mod fuzz_corpus;
mod git;
#[cfg(feature = "demo")]
mod git_branches;
#[cfg(feature = "demo")]
mod git_index;
#[cfg(feature = "demo")]
mod git_real;
#[cfg(feature = "demo")]
mod git_ssh;
#[cfg(feature = "demo")]
mod git_support;
#[cfg(feature = "demo")]
mod git_wire;
mod kustomize_layouts;
mod kustomize_overlays;
mod kustomize_render_real;
#[cfg(feature = "demo")]
mod preview;
#[cfg(feature = "demo")]
mod registry;
mod registry_artifacts;
mod reference;
mod registry_faults;
mod registry_hostile;
mod registry_lists;
mod registry_real;
mod registry_sign_in;
#[cfg(feature = "demo")]
mod reconcile;
mod reconcile_additions;
#[cfg(feature = "demo")]
mod reconcile_commits;
mod reconcile_confined;
mod reconcile_diffs;
mod reconcile_fair;
mod reconcile_kinds;
mod reconcile_records;
mod reconcile_namespaces;
#[cfg(feature = "demo")]
mod reconcile_panics;
mod reconcile_repairs;
#[cfg(feature = "demo")]
mod reconcile_rights;
mod reconcile_results;
mod reconcile_scenarios;
mod reconcile_tenant_limits;
mod reconcile_tenants;
#[cfg(feature = "demo")]
mod render;
mod render_cases;
mod render_in_process;
#[cfg(feature = "demo")]
mod render_kept;
mod render_real;
#[cfg(target_os = "linux")]
mod render_sandbox;
mod render_support;
#[cfg(feature = "demo")]
mod requests;
#[cfg(feature = "demo")]
mod requests_authors;
#[cfg(feature = "demo")]
mod requests_ended;
#[cfg(feature = "demo")]
mod requests_news;
#[cfg(feature = "demo")]
mod requests_refused;
#[cfg(feature = "demo")]
mod requests_scope;
mod rewrite_cases;
mod rewrite_properties;
#[cfg(feature = "demo")]
mod sandbox_forge;
mod sandbox_kube;
#[cfg(feature = "demo")]
mod service_answers;
#[cfg(feature = "demo")]
mod service_diff;
mod store;
mod support;
#[cfg(feature = "demo")]
mod tenant_commands;
mod suspend_cases;
mod rollout;
#[cfg(feature = "demo")]
mod rollout_fleet;
#[cfg(feature = "demo")]
mod update_choices;
#[cfg(feature = "demo")]
mod update_conflicts;
#[cfg(feature = "demo")]
mod update_daemon;
#[cfg(feature = "demo")]
mod update_faults;
#[cfg(feature = "demo")]
mod update_flux;
#[cfg(feature = "demo")]
mod update_gathering;
#[cfg(feature = "demo")]
mod update_force_push;
#[cfg(feature = "demo")]
mod update_holds;
#[cfg(feature = "demo")]
mod update_hostile;
#[cfg(feature = "demo")]
mod update_layouts;
#[cfg(feature = "demo")]
mod update_memory;
#[cfg(feature = "demo")]
mod update_quiet;
#[cfg(feature = "demo")]
mod update_real;
#[cfg(feature = "demo")]
mod update_reload;
#[cfg(feature = "demo")]
mod update_rollback;
#[cfg(feature = "demo")]
mod update_rules;
#[cfg(feature = "demo")]
mod update_scans;
#[cfg(feature = "demo")]
mod update_support;
#[cfg(feature = "demo")]
mod update_suspend;
mod update_verify;
#[cfg(feature = "demo")]
mod update_snapshot;
