//! The files of the demo's config repository: declarations, and manifests as users write them.

/// Files with their paths.
pub(super) type SeedFiles = Vec<(&'static str, String)>;

/// Borrows files as the sandbox takes them.
pub(super) fn borrowed(files: &SeedFiles) -> Vec<(&'static str, &str)> {
    files
        .iter()
        .map(|(path, text)| (*path, text.as_str()))
        .collect()
}

/// The declarations of the shop.
pub(super) const POLICIES: &str = "policies/shop.yaml";
/// The web server in dev: a Deployment.
pub(super) const DEV_WEB: &str = "envs/dev/web.yaml";
/// The worker in dev: values of a Helm chart.
pub(super) const DEV_WORKER: &str = "envs/dev/worker/values.yaml";
/// The web server in prod: a Deployment with a marker.
pub(super) const PROD_WEB: &str = "envs/prod/web.yaml";

/// Returns the files of the first commit.
pub(super) fn files(host: &str, web: &str, worker: &str) -> SeedFiles {
    vec![
        (POLICIES, policies(host)),
        (DEV_WEB, dev_web(host, web)),
        (DEV_WORKER, dev_worker(host, worker)),
        (PROD_WEB, prod_web(host, web)),
    ]
}

/// The declarations of podinfo.
pub(super) const APPLICATION: &str = "policies/podinfo.yaml";
/// The Deployment of podinfo.
pub(super) const PODINFO: &str = "envs/dev/podinfo/deployment.yaml";

/// Returns the files that deploy podinfo, its declarations first.
pub(super) fn podinfo(
    host: &str,
    cluster: &str,
    namespace: &str,
    tag: &str,
    replicas: i64,
) -> SeedFiles {
    let service = "apiVersion: v1
kind: Service
metadata: {name: podinfo}
spec:
  selector: {app: podinfo}
  ports: [{port: 80, targetPort: 9898}]
";
    vec![
        (APPLICATION, application(host, cluster, namespace)),
        (PODINFO, deployment("podinfo", host, tag, replicas)),
        ("envs/dev/podinfo/service.yaml", service.to_owned()),
    ]
}

/// The declarations of the stage.
pub(super) const STAGE: &str = "policies/stage.yaml";
/// The Deployment of the stage.
pub(super) const STAGED: &str = "envs/stage/podinfo/deployment.yaml";

/// Returns the files that deploy podinfo to the stage after a review, the declarations first.
pub(super) fn stage(
    host: &str,
    cluster: &str,
    namespace: &str,
    tag: &str,
    replicas: i64,
) -> SeedFiles {
    let declarations = format!(
        r#"apiVersion: tagboat.dev/v1alpha1
kind: ImagePolicy
metadata: {{name: podinfo, namespace: stage, labels: {{stage: stage}}}}
spec:
  image: {host}/shop/podinfo
  policy: {{semver: {{range: '>=6.7.0 <7.0.0'}}}}
---
apiVersion: tagboat.dev/v1alpha1
kind: Environment
metadata: {{name: stage}}
spec:
  paths: ['envs/stage/**']
  policySelector: {{matchLabels: {{stage: stage}}}}
  update:
    via: pullRequest
    request: {{labels: [images], mergeMethod: squash}}
    autoMerge: {{bump: [patch], requireChecks: [ci]}}
---
apiVersion: tagboat.dev/v1alpha1
kind: Application
metadata: {{name: podinfo-stage, namespace: {namespace}}}
spec:
  environment: stage
  path: envs/stage/podinfo
  cluster: {cluster}
  targetNamespace: {namespace}
  wait: true
"#
    );
    vec![
        (STAGE, declarations),
        (STAGED, deployment("podinfo-stage", host, tag, replicas)),
    ]
}

fn deployment(name: &str, host: &str, tag: &str, replicas: i64) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - name: podinfo
        image: {host}/shop/podinfo:{tag}
        ports: [{{containerPort: 9898}}]
"
    )
}

fn application(host: &str, cluster: &str, namespace: &str) -> String {
    format!(
        r#"apiVersion: tagboat.dev/v1alpha1
kind: ImagePolicy
metadata: {{name: podinfo, namespace: dev, labels: {{stage: dev}}}}
spec:
  image: {host}/shop/podinfo
  interval: 5s
  policy: {{semver: {{range: '>=6.7.0 <7.0.0'}}}}
---
apiVersion: tagboat.dev/v1alpha1
kind: Application
metadata: {{name: podinfo, namespace: {namespace}}}
spec:
  environment: dev
  path: envs/dev/podinfo
  cluster: {cluster}
  targetNamespace: {namespace}
  wait: true
  prune: true
"#
    )
}

fn policies(host: &str) -> String {
    format!(
        r#"# dev: every release of web, and the newest build of the worker
apiVersion: tagboat.dev/v1alpha1
kind: ImagePolicy
metadata: {{name: web, namespace: dev, labels: {{stage: dev}}}}
spec:
  image: {host}/shop/web
  interval: 5s
  policy: {{semver: {{range: '>=1.4.0 <2.0.0'}}}}
---
apiVersion: tagboat.dev/v1alpha1
kind: ImagePolicy
metadata: {{name: worker, namespace: dev, labels: {{stage: dev}}}}
spec:
  image: {host}/shop/worker
  interval: 5s
  filterTags: {{pattern: '^main-(?P<build>\d+)-[0-9a-f]{{7}}$', extract: '$build'}}
  policy: {{numerical: {{order: asc}}}}
---
apiVersion: tagboat.dev/v1alpha1
kind: Environment
metadata: {{name: dev}}
spec:
  paths: ['envs/dev/**']
  policySelector: {{matchLabels: {{stage: dev}}}}
  update: {{via: commit}}
---
# prod: a stricter range, tags at least a day old, in working hours
apiVersion: tagboat.dev/v1alpha1
kind: ImagePolicy
metadata: {{name: web, namespace: prod, labels: {{stage: prod}}}}
spec:
  image: {host}/shop/web
  policy: {{semver: {{range: '>=1.4.0 <1.6.0'}}}}
  minimumAge: 24h
---
apiVersion: tagboat.dev/v1alpha1
kind: Environment
metadata: {{name: prod}}
spec:
  paths: ['envs/prod/**']
  policySelector: {{matchLabels: {{stage: prod}}}}
  references: markers
  update:
    via: commit
    windows: [{{cron: '0 9 * * *', duration: 8h}}]
"#
    )
}

fn dev_web(host: &str, tag: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  template:
    spec:
      containers:
      - name: web      # comments, quotes and blanks stay as they are
        image:   \"{host}/shop/web:{tag}\"
        ports: [{{containerPort: 8080}}]
"
    )
}

fn dev_worker(host: &str, tag: &str) -> String {
    format!(
        "# values of the chart
replicas: 1
image:
  repository: {host}/shop/worker
  tag: {tag}
"
    )
}

fn prod_web(host: &str, tag: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 3
  template:
    spec:
      containers:
      - name: web
        image: {host}/shop/web:{tag} # {{\"$imagepolicy\": \"prod:web\"}}
"
    )
}
