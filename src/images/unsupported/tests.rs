use super::*;

/// Returns the findings of a file, a line each.
fn found(path: &str, source: &str) -> String {
    let kind = FileKind::of(path, |_| false);
    let line = |found: &Unsupported| {
        let version = found.version.as_deref().unwrap_or("-");
        format!(
            "{} {} {} {version}\n",
            found.line,
            found.kind.as_str(),
            found.name
        )
    };
    find(path, &YamlFile::new(kind, source.as_bytes()))
        .iter()
        .map(line)
        .collect()
}

#[test]
fn unsupported_flux_objects_are_named() {
    let source = "\
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: redis, namespace: apps}
spec:
  chart:
    spec:
      chart: redis
      version: 17.1.0
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: podinfo}
spec: {chartRef: {kind: OCIRepository, name: podinfo}}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: redis}
spec: {values: {replicas: 2}}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: OCIRepository
metadata: {name: podinfo}
spec:
  url: oci://ghcr.io/stefanprodan/charts/podinfo
  ref: {semver: 6.x}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: flux-system, namespace: flux-system}
spec: {url: 'https://example.com/a/b', ref: {branch: main}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: apps, namespace: flux-system}
spec: {path: ./apps, sourceRef: {kind: GitRepository, name: flux-system}}
---
apiVersion: image.toolkit.fluxcd.io/v1
kind: ImageRepository
metadata: {name: podinfo}
spec: {image: ghcr.io/stefanprodan/podinfo}
---
apiVersion: notification.toolkit.fluxcd.io/v1beta3
kind: Alert
metadata: {name: errors}
spec: {providerRef: {name: chat}, eventSources: [{kind: Kustomization, name: '*'}]}
---
apiVersion: notification.toolkit.fluxcd.io/v1beta3
kind: Provider
metadata: {name: chat}
spec: {type: slack}
---
apiVersion: notification.toolkit.fluxcd.io/v1
kind: Receiver
metadata: {name: push}
spec: {type: github}
";
    assert_eq!(
        found("clusters/prod/x.yaml", source),
        "8 HelmRelease chart redis 17.1.0\n\
         13 HelmRelease podinfo -\n\
         25 Flux OCIRepository podinfo 6.x\n\
         29 Flux GitRepository flux-system/flux-system -\n\
         34 Flux Kustomization flux-system/apps -\n\
         44 Flux Alert errors -\n\
         49 Flux Provider chat -\n\
         54 Flux Receiver push -\n"
    );
}

#[test]
fn unsupported_argo_objects_are_named() {
    let source = "\
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: ingress}
spec:
  sources:
  - chart: ingress-nginx
    targetRevision: 4.8.3
  - {repoURL: 'https://example.com/a/b', ref: values}
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: web, namespace: argocd}
spec: {source: {path: apps/web, targetRevision: HEAD}}
---
apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata: {name: all}
spec: {template: {spec: {source: {path: '{{path}}'}}}}
---
apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: default}
spec: {}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: migrate
  annotations: {argocd.argoproj.io/hook: PreSync}
";
    assert_eq!(
        found("argo/x.yaml", source),
        "7 Argo CD chart ingress-nginx 4.8.3\n\
         13 Argo CD Application argocd/web HEAD\n\
         17 Argo CD ApplicationSet all -\n\
         29 hook Job migrate PreSync\n"
    );
}

#[test]
fn unsupported_charts_of_files_are_named() {
    let chart = "name: web\ndependencies:\n- name: common\n  version: 2.x.x\n- {name: own}\n";
    assert_eq!(
        found("charts/web/Chart.yaml", chart),
        "4 Chart.yaml dependency common 2.x.x\n5 Chart.yaml dependency own -\n"
    );
    let kustomization = "\
resources:
- ../base
- https://bot:secret@example.com/org/repo//path?ref=v1.2.3&timeout=90s
- github.com/org/repo?ref=main
helmCharts:
- name: minecraft
  version: 3.1.3
";
    assert_eq!(
        found("x/kustomization.yaml", kustomization),
        "3 remote base https://example.com/org/repo//path v1.2.3\n\
         4 remote base github.com/org/repo main\n\
         7 kustomize chart minecraft 3.1.3\n"
    );
    assert_eq!(found("x/values.yaml", "helmCharts: [{name: x}]\n"), "");
    assert_eq!(
        found("x/broken.yaml", "apiVersion: argoproj.io/v1\nkind: {\n"),
        ""
    );
}

#[test]
fn unsupported_findings_of_a_file_are_bounded() {
    let source = format!("dependencies:\n{}", "- {name: x}\n".repeat(MOST + 5));
    assert_eq!(found("Chart.yaml", &source).lines().count(), MOST);
}
