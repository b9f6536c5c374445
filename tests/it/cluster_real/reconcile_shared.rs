//! The shared scenarios of the reconcile pass, on the real server.

use super::fleet::Fleet;
use crate::{
    it::{
        reconcile_additions::{self, for_each_addition_scenario},
        reconcile_diffs::{self, for_each_diff_scenario},
        reconcile_fair::{self, for_each_fairness_scenario},
        reconcile_kinds::{self, for_each_kind_scenario},
        reconcile_namespaces::{self, for_each_namespace_scenario},
        reconcile_records::{self, for_each_record_scenario},
        reconcile_repairs::{self, for_each_repair_scenario},
        reconcile_results::{self, for_each_result_scenario},
        reconcile_scenarios::{self, for_each_scenario},
        reconcile_tenant_limits::{self, for_each_limit_scenario},
        reconcile_tenants::{self, for_each_tenant_scenario},
    },
    servers::kube::Kube,
};

macro_rules! run_on_real_server {
    ($module:ident: $($scenario:ident),* $(,)?) => {
        $(
            #[tokio::test]
            #[ignore = "needs kube-apiserver: run tests/run cluster"]
            async fn $scenario() {
                let fleet = Fleet::start(Kube::shared(), "scenario").await;
                $module::$scenario(fleet).await;
            }
        )*
    };
}
for_each_scenario!(run_on_real_server);
for_each_tenant_scenario!(run_on_real_server);
for_each_limit_scenario!(run_on_real_server);
for_each_addition_scenario!(run_on_real_server);
for_each_diff_scenario!(run_on_real_server);
for_each_fairness_scenario!(run_on_real_server);
for_each_kind_scenario!(run_on_real_server);
for_each_record_scenario!(run_on_real_server);
for_each_namespace_scenario!(run_on_real_server);
for_each_repair_scenario!(run_on_real_server);
for_each_result_scenario!(run_on_real_server);
