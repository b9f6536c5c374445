//! Layouts of public repositories for Flux and Argo CD, with objects of our own.

/// One layout: its name, the folder to render, the files.
pub(super) type Layout = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const WEB: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 1\n  selector:\n    matchLabels:\n      app: web\n  template:\n    metadata:\n      labels:\n        app: web\n    spec:\n      serviceAccountName: web\n      containers:\n      - name: web\n        image: ghcr.io/example/web:1.0.0\n        ports:\n        - containerPort: 8080\n          name: http\n          protocol: TCP\n        env:\n        - name: COLOR\n          value: \"#34577c\"\n        - name: CONFIG\n          valueFrom:\n            configMapKeyRef:\n              name: web-config\n              key: config\n        livenessProbe:\n          exec:\n            command: [check, http]\n          initialDelaySeconds: 5\n        resources:\n          limits:\n            cpu: 2000m\n            memory: 512Mi\n        volumeMounts:\n        - name: data\n          mountPath: /data\n      volumes:\n      - name: data\n        emptyDir: {}\n";
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  type: ClusterIP\n  selector:\n    app: web\n  ports:\n  - name: http\n    port: 9898\n    protocol: TCP\n    targetPort: http\n";
const HPA: &str = "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata:\n  name: web\nspec:\n  scaleTargetRef:\n    apiVersion: apps/v1\n    kind: Deployment\n    name: web\n  minReplicas: 2\n  maxReplicas: 4\n  metrics:\n  - type: Resource\n    resource:\n      name: cpu\n      target:\n        type: Utilization\n        averageUtilization: 99\n";
const ACCOUNT: &str = "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: web\n";
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: web\n  labels:\n    toolkit.fluxcd.io/tenant: dev-team\n";
const INGRESS: &str = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: web\n  annotations:\n    cert-manager.io/cluster-issuer: letsencrypt\nspec:\n  ingressClassName: nginx\n  rules:\n  - host: web.example.com\n    http:\n      paths:\n      - path: /\n        pathType: Prefix\n        backend:\n          service:\n            name: web\n            port:\n              name: http\n  tls:\n  - hosts: [web.example.com]\n    secretName: web-tls\n";
const RELEASE: &str = "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata:\n  name: web\n  namespace: web\nspec:\n  releaseName: web\n  chart:\n    spec:\n      chart: web\n      version: '>=1.0.0'\n      sourceRef:\n        kind: HelmRepository\n        name: web\n        namespace: flux-system\n  interval: 50m\n  install:\n    remediation:\n      retries: 3\n  values:\n    redis:\n      enabled: true\n    ingress:\n      enabled: true\n";
const RELEASE_VALUES: &str = "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata:\n  name: web\n  namespace: web\nspec:\n  chart:\n    spec:\n      version: \">=1.0.0-alpha\"\n  test:\n    enable: false\n  values:\n    ingress:\n      hosts:\n      - host: web.staging\n";
const REPOSITORY: &str = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata:\n  name: web\nspec:\n  interval: 120m\n  url: https://charts.example.com\n";
const RBAC: &str = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: manager-role\nrules:\n- apiGroups: [apps]\n  resources: [deployments]\n  verbs: ['*']\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata:\n  name: manager-rolebinding\nroleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: ClusterRole\n  name: manager-role\nsubjects:\n- kind: ServiceAccount\n  name: web\n  namespace: system\n";
const CRD: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  annotations:\n    controller-gen.kubebuilder.io/version: v0.16.1\n  name: memcacheds.cache.example.com\nspec:\n  group: cache.example.com\n  names:\n    kind: Memcached\n    listKind: MemcachedList\n    plural: memcacheds\n  scope: Namespaced\n  versions:\n  - name: v1\n    schema:\n      openAPIV3Schema:\n        description: |-\n          Memcached is the schema:\n          https://example.com\n        properties:\n          spec:\n            properties:\n              size:\n                format: int32\n                minimum: 1\n                type: integer\n            type: object\n        type: object\n    served: true\n    storage: true\n    subresources:\n      status: {}\n";
const WEBHOOK: &str = "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata:\n  name: validating-webhook-configuration\nwebhooks:\n- admissionReviewVersions: [v1]\n  clientConfig:\n    service:\n      name: web\n      namespace: system\n      path: /validate\n  name: vmemcached.example.com\n  sideEffects: None\n";
const CERTIFICATE: &str = "apiVersion: cert-manager.io/v1\nkind: Issuer\nmetadata:\n  name: selfsigned-issuer\n  namespace: system\nspec:\n  selfSigned: {}\n---\napiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata:\n  name: serving-cert\n  namespace: system\nspec:\n  dnsNames:\n  - SERVICE_NAME.SERVICE_NAMESPACE.svc\n  issuerRef:\n    kind: Issuer\n    name: selfsigned-issuer\n  secretName: webhook-server-cert\n";
const ROLE_LIST: &str = "apiVersion: rbac.authorization.k8s.io/v1\nitems:\n- apiVersion: rbac.authorization.k8s.io/v1\n  kind: Role\n  metadata:\n    name: prometheus-k8s\n    namespace: default\n  rules: []\n- apiVersion: rbac.authorization.k8s.io/v1\n  kind: Role\n  metadata:\n    name: prometheus-k8s\n    namespace: kube-system\n  rules: []\nkind: RoleList\n";
const MONITOR: &str = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  labels:\n    prometheus: k8s\n    role: alert-rules\n  name: web-rules\n  namespace: monitoring\nspec:\n  groups:\n  - name: web\n    rules:\n    - alert: WebDown\n      annotations:\n        description: 'Web {{ $labels.instance }} is down: {{ $value }}'\n      expr: |\n        absent(up{job=\"web\"} == 1)\n      for: 15m\n";
const APPLICATION: &str = "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata:\n  name: web\n  namespace: argocd\n  finalizers:\n  - resources-finalizer.argocd.argoproj.io\nspec:\n  project: default\n  source:\n    repoURL: https://github.com/example/apps.git\n    targetRevision: HEAD\n    path: web\n  destination:\n    server: https://kubernetes.default.svc\n    namespace: web\n";
const STATEFUL: &str = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: db\nspec:\n  serviceName: db\n  selector:\n    matchLabels: {app: db}\n  template:\n    metadata:\n      labels: {app: db}\n    spec:\n      containers:\n      - name: postgres\n        image: postgres:16\n        envFrom:\n        - secretRef: {name: db-credentials}\n        volumeMounts:\n        - {name: data, mountPath: /var/lib/postgresql/data}\n  volumeClaimTemplates:\n  - metadata: {name: data}\n    spec:\n      accessModes: [ReadWriteOnce]\n      resources: {requests: {storage: 10Gi}}\n";
const CRON: &str = "apiVersion: batch/v1\nkind: CronJob\nmetadata:\n  name: backup\nspec:\n  schedule: \"@daily\"\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          restartPolicy: OnFailure\n          containers:\n          - name: backup\n            image: ghcr.io/example/backup:latest\n            envFrom:\n            - configMapRef: {name: backup-env}\n";
const K: &str = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- deployment.yaml\n- service.yaml\n";
const ALL: &str = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - hpa.yaml\n  - deployment.yaml\n  - service.yaml\n";
const REPLICAS: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 3\n  template:\n    spec:\n      containers:\n      - name: web\n        resources:\n          limits:\n            memory: 1Gi\n        env:\n        - name: COLOR\n          value: blue\n";

/// All layouts.
pub(super) const LAYOUTS: &[Layout] = &[
    (
        "podinfo kustomize",
        "kustomize",
        &[
            ("kustomize/kustomization.yaml", ALL),
            ("kustomize/hpa.yaml", HPA),
            ("kustomize/deployment.yaml", WEB),
            ("kustomize/service.yaml", SERVICE),
        ],
    ),
    (
        "podinfo overlay with label transformer",
        "deploy/overlays/dev",
        &[
            (
                "deploy/overlays/dev/kustomization.yaml",
                "namespace: dev\nresources:\n  - ../../bases/web\n  - namespace.yaml\ntransformers:\n  - labels.yaml\n",
            ),
            (
                "deploy/overlays/dev/labels.yaml",
                "apiVersion: builtin\nkind: LabelTransformer\nmetadata:\n  name: labels\nlabels:\n  env: dev\nfieldSpecs:\n  - path: metadata/labels\n    create: true\n",
            ),
            ("deploy/overlays/dev/namespace.yaml", NAMESPACE),
            ("deploy/bases/web/kustomization.yaml", K),
            ("deploy/bases/web/deployment.yaml", WEB),
            ("deploy/bases/web/service.yaml", SERVICE),
        ],
    ),
    (
        "flux apps base",
        "apps/base/web",
        &[
            (
                "apps/base/web/kustomization.yaml",
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: web\nresources:\n  - namespace.yaml\n  - repository.yaml\n  - release.yaml\n",
            ),
            ("apps/base/web/namespace.yaml", NAMESPACE),
            ("apps/base/web/repository.yaml", REPOSITORY),
            ("apps/base/web/release.yaml", RELEASE),
        ],
    ),
    (
        "flux apps production",
        "apps/production",
        &[
            (
                "apps/production/kustomization.yaml",
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - ../base/web\npatchesStrategicMerge:\n  - values.yaml\n",
            ),
            ("apps/production/values.yaml", RELEASE_VALUES),
            (
                "apps/base/web/kustomization.yaml",
                "namespace: web\nresources:\n  - release.yaml\n",
            ),
            ("apps/base/web/release.yaml", RELEASE),
        ],
    ),
    (
        "flux apps staging with target",
        "apps/staging",
        &[
            (
                "apps/staging/kustomization.yaml",
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - ../base/web\npatches:\n  - path: values.yaml\n    target:\n      kind: HelmRelease\n",
            ),
            ("apps/staging/values.yaml", RELEASE_VALUES),
            (
                "apps/base/web/kustomization.yaml",
                "resources:\n  - release.yaml\n",
            ),
            ("apps/base/web/release.yaml", RELEASE),
        ],
    ),
    (
        "flux infrastructure controllers",
        "infrastructure/controllers",
        &[
            (
                "infrastructure/controllers/kustomization.yaml",
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - cert-manager.yaml\n  - ingress-nginx.yaml\n",
            ),
            (
                "infrastructure/controllers/cert-manager.yaml",
                "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: cert-manager\n---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata:\n  name: cert-manager\n  namespace: cert-manager\nspec:\n  interval: 30m\n  values:\n    installCRDs: true\n",
            ),
            (
                "infrastructure/controllers/ingress-nginx.yaml",
                "---\n# The ingress\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: ingress-nginx\n",
            ),
        ],
    ),
    (
        "flux infrastructure with patch of an issuer",
        "infrastructure/production",
        &[
            (
                "infrastructure/production/kustomization.yaml",
                "resources:\n  - ../configs\npatches:\n  - patch: |\n      - op: replace\n        path: /spec/acme/server\n        value: https://acme-v02.example.org/directory\n    target:\n      kind: ClusterIssuer\n      name: letsencrypt\n",
            ),
            (
                "infrastructure/configs/kustomization.yaml",
                "resources: [issuers.yaml]\n",
            ),
            (
                "infrastructure/configs/issuers.yaml",
                "apiVersion: cert-manager.io/v1\nkind: ClusterIssuer\nmetadata:\n  name: letsencrypt\nspec:\n  acme:\n    server: https://acme-staging-v02.example.org/directory\n    solvers:\n    - http01:\n        ingress:\n          class: nginx\n",
            ),
        ],
    ),
    (
        "flux system with patches",
        "clusters/prod/flux-system",
        &[
            (
                "clusters/prod/flux-system/kustomization.yaml",
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- gotk-components.yaml\npatches:\n  - patch: |\n      - op: add\n        path: /spec/template/spec/containers/0/args/-\n        value: --concurrent=20\n      - op: add\n        path: /spec/template/spec/containers/0/args/-\n        value: --requeue-dependency=5s\n    target:\n      kind: Deployment\n      name: \"(kustomize-controller|helm-controller|source-controller)\"\n  - patch: |\n      apiVersion: apps/v1\n      kind: Deployment\n      metadata:\n        name: all\n      spec:\n        template:\n          spec:\n            nodeSelector:\n              kubernetes.io/os: linux\n    target:\n      kind: Deployment\n      labelSelector: app.kubernetes.io/part-of=flux\n",
            ),
            (
                "clusters/prod/flux-system/gotk-components.yaml",
                "---\n# This manifest was generated by flux. DO NOT EDIT.\napiVersion: v1\nkind: Namespace\nmetadata:\n  labels:\n    app.kubernetes.io/part-of: flux\n  name: flux-system\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  labels:\n    app.kubernetes.io/part-of: flux\n  name: source-controller\n  namespace: flux-system\nspec:\n  replicas: 1\n  template:\n    spec:\n      containers:\n      - args:\n        - --events-addr=\n        - --log-level=info\n        image: ghcr.io/fluxcd/source-controller:v1.4.1\n        name: manager\n        ports:\n        - containerPort: 9090\n          name: http\n          protocol: TCP\n        - containerPort: 8080\n          name: http-prom\n          protocol: TCP\n",
            ),
        ],
    ),
    (
        "flux tenants",
        "tenants/staging",
        &[
            (
                "tenants/staging/kustomization.yaml",
                "resources:\n  - ../base/dev-team\npatches:\n  - path: path.yaml\n",
            ),
            (
                "tenants/staging/path.yaml",
                "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: dev-team\n  namespace: apps\nspec:\n  path: ./staging\n",
            ),
            (
                "tenants/base/dev-team/kustomization.yaml",
                "resources:\n  - rbac.yaml\n  - sync.yaml\n",
            ),
            (
                "tenants/base/dev-team/rbac.yaml",
                "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: dev-team, namespace: apps}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: dev-team-reconciler, namespace: apps}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\nsubjects:\n- {apiGroup: rbac.authorization.k8s.io, kind: User, name: 'gotk:apps:reconciler'}\n- {kind: ServiceAccount, name: dev-team, namespace: apps}\n",
            ),
            (
                "tenants/base/dev-team/sync.yaml",
                "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: dev-team, namespace: apps}\nspec: {interval: 5m, prune: true, sourceRef: {kind: GitRepository, name: dev-team}}\n",
            ),
        ],
    ),
    (
        "argo guestbook",
        "kustomize-guestbook",
        &[
            (
                "kustomize-guestbook/kustomization.yaml",
                "namePrefix: kustomize-\nconfigMapGenerator:\n- name: web-config\n  files:\n  - config=index2.html\nresources:\n- deployment.yaml\n- service.yaml\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n",
            ),
            (
                "kustomize-guestbook/index2.html",
                "<html>\n<body class=\"a\">&amp; hello</body>\n</html>\n",
            ),
            ("kustomize-guestbook/deployment.yaml", WEB),
            ("kustomize-guestbook/service.yaml", SERVICE),
        ],
    ),
    (
        "argo cd ha",
        "manifests/ha/base",
        &[
            (
                "manifests/ha/base/kustomization.yaml",
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\n\npatches:\n- path: overlays/deployment.yaml\n\n\nimages:\n- name: ghcr.io/example/web\n  newName: ghcr.io/example/web\n  newTag: v2.7.6\nresources:\n- ../../base/server\n- ./redis-ha\n",
            ),
            ("manifests/ha/base/overlays/deployment.yaml", REPLICAS),
            (
                "manifests/ha/base/redis-ha/kustomization.yaml",
                "resources: [db.yaml]\n",
            ),
            ("manifests/ha/base/redis-ha/db.yaml", STATEFUL),
            ("manifests/base/server/kustomization.yaml", K),
            ("manifests/base/server/deployment.yaml", WEB),
            ("manifests/base/server/service.yaml", SERVICE),
        ],
    ),
    (
        "argo cd cluster rbac",
        "manifests/cluster-rbac",
        &[
            (
                "manifests/cluster-rbac/kustomization.yaml",
                "resources:\n- rbac.yaml\n- account.yaml\nnamespace: argocd\n",
            ),
            ("manifests/cluster-rbac/rbac.yaml", RBAC),
            ("manifests/cluster-rbac/account.yaml", ACCOUNT),
        ],
    ),
    (
        "app of apps",
        "apps",
        &[
            (
                "apps/kustomization.yaml",
                "namespace: argocd\nresources:\n- web.yaml\npatches:\n- target: {kind: Application}\n  patch: |-\n    - op: replace\n      path: /spec/source/targetRevision\n      value: main\n    - op: add\n      path: /spec/syncPolicy\n      value:\n        automated:\n          prune: true\n          selfHeal: true\n",
            ),
            ("apps/web.yaml", APPLICATION),
        ],
    ),
    (
        "app of apps with spec by merge",
        "apps",
        &[
            (
                "apps/kustomization.yaml",
                "resources: [web.yaml]\npatches:\n- patch: |-\n    apiVersion: argoproj.io/v1alpha1\n    kind: Application\n    metadata: {name: web, namespace: argocd}\n    spec: {source: {helm: {parameters: [{name: a, value: b}]}}}\n",
            ),
            ("apps/web.yaml", APPLICATION),
        ],
    ),
    (
        "kube-prometheus",
        "manifests",
        &[
            (
                "manifests/kustomization.yaml",
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- ./rule.yaml\n- ./roles.yaml\n- ./setup/namespace.yaml\n",
            ),
            ("manifests/rule.yaml", MONITOR),
            ("manifests/roles.yaml", ROLE_LIST),
            (
                "manifests/setup/namespace.yaml",
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: monitoring\n",
            ),
        ],
    ),
    (
        "kube-prometheus without alertmanager",
        "overlay",
        &[
            (
                "overlay/kustomization.yaml",
                "resources: [../manifests]\nnamespace: observability\npatches:\n- patch: |-\n    apiVersion: monitoring.coreos.com/v1\n    kind: PrometheusRule\n    metadata: {name: web-rules, namespace: monitoring}\n    $patch: delete\n- patch: |-\n    apiVersion: apps/v1\n    kind: Deployment\n    metadata: {name: web}\n    spec: {template: {spec: {securityContext: null}}}\n",
            ),
            (
                "manifests/kustomization.yaml",
                "resources: [rule.yaml, web.yaml]\n",
            ),
            ("manifests/rule.yaml", MONITOR),
            ("manifests/web.yaml", WEB),
        ],
    ),
    (
        "grafana dashboards",
        "dashboards",
        &[
            (
                "dashboards/kustomization.yaml",
                "namespace: monitoring\nconfigMapGenerator:\n- name: dashboards\n  files:\n  - web.json\ngeneratorOptions:\n  disableNameSuffixHash: true\n  labels:\n    grafana_dashboard: \"1\"\n",
            ),
            (
                "dashboards/web.json",
                "{\n  \"panels\": [],\n  \"title\": \"Web > all & more\"\n}\n",
            ),
        ],
    ),
    (
        "kubebuilder default",
        "config/default",
        &[
            (
                "config/default/kustomization.yaml",
                "# Adds namespace to all resources.\nnamespace: memcached-system\n\n# Value of this field is prepended to the\n# names of all resources.\nnamePrefix: memcached-\n\n# Labels to add to all resources and selectors.\n#labels:\n#- includeSelectors: true\n\nresources:\n- ../crd\n- ../rbac\n- ../manager\n#- ../webhook\n\npatches:\n# [METRICS] The following patch will enable the metrics endpoint\n- path: manager_metrics_patch.yaml\n  target:\n    kind: Deployment\n",
            ),
            (
                "config/default/manager_metrics_patch.yaml",
                "# This patch adds the args\n- op: add\n  path: /spec/template/spec/containers/0/args\n  value: [--metrics-bind-address=:8443]\n",
            ),
            (
                "config/crd/kustomization.yaml",
                "# This kustomization.yaml is not intended to be run by itself\nresources:\n- bases/crd.yaml\n# +kubebuilder:scaffold:crdkustomizeresource\n\npatches:\n# +kubebuilder:scaffold:crdkustomizewebhookpatch\n",
            ),
            ("config/crd/bases/crd.yaml", CRD),
            (
                "config/rbac/kustomization.yaml",
                "resources:\n- account.yaml\n- role.yaml\n",
            ),
            ("config/rbac/account.yaml", ACCOUNT),
            ("config/rbac/role.yaml", RBAC),
            (
                "config/manager/kustomization.yaml",
                "resources:\n- manager.yaml\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nimages:\n- name: ghcr.io/example/web\n  newName: example.com/memcached\n  newTag: v0.0.1\n",
            ),
            ("config/manager/manager.yaml", WEB),
        ],
    ),
    (
        "kubebuilder with certificates",
        "config/default",
        &[
            (
                "config/default/kustomization.yaml",
                "namespace: memcached-system\nnamePrefix: memcached-\nresources: [../certmanager, ../webhook]\nreplacements:\n- source:\n    kind: Certificate\n    group: cert-manager.io\n    version: v1\n    name: serving-cert\n    fieldPath: .metadata.namespace\n  targets:\n  - select:\n      kind: ValidatingWebhookConfiguration\n    fieldPaths:\n    - .metadata.annotations.[cert-manager.io/inject-ca-from]\n    options:\n      delimiter: '/'\n      index: 0\n      create: true\n- source:\n    kind: Certificate\n    group: cert-manager.io\n    version: v1\n    name: serving-cert\n    fieldPath: .metadata.name\n  targets:\n  - select:\n      kind: ValidatingWebhookConfiguration\n    fieldPaths:\n    - .metadata.annotations.[cert-manager.io/inject-ca-from]\n    options:\n      delimiter: '/'\n      index: 1\n      create: true\n- source:\n    kind: Service\n    version: v1\n    name: web\n    fieldPath: .metadata.name\n  targets:\n  - select:\n      kind: Certificate\n      group: cert-manager.io\n      version: v1\n    fieldPaths:\n    - .spec.dnsNames.0\n    options:\n      delimiter: '.'\n      index: 0\n      create: true\n",
            ),
            (
                "config/certmanager/kustomization.yaml",
                "resources:\n- certificate.yaml\n",
            ),
            ("config/certmanager/certificate.yaml", CERTIFICATE),
            (
                "config/webhook/kustomization.yaml",
                "resources: [manifests.yaml, service.yaml]\n",
            ),
            ("config/webhook/manifests.yaml", WEBHOOK),
            ("config/webhook/service.yaml", SERVICE),
        ],
    ),
    (
        "kubebuilder with configurations",
        "config/crd",
        &[
            (
                "config/crd/kustomization.yaml",
                "resources: [bases/crd.yaml]\nconfigurations:\n- kustomizeconfig.yaml\n",
            ),
            (
                "config/crd/kustomizeconfig.yaml",
                "nameReference:\n- kind: Service\n  version: v1\n  fieldSpecs:\n  - kind: CustomResourceDefinition\n    version: v1\n    group: apiextensions.k8s.io\n    path: spec/conversion/webhook/clientConfig/service/name\n",
            ),
            ("config/crd/bases/crd.yaml", CRD),
        ],
    ),
    (
        "kubebuilder webhook of a definition",
        "config/crd",
        &[
            (
                "config/crd/kustomization.yaml",
                "namespace: memcached-system\nresources: [bases/crd.yaml]\npatches:\n- path: patches/webhook.yaml\n",
            ),
            (
                "config/crd/patches/webhook.yaml",
                "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: memcacheds.cache.example.com\nspec:\n  conversion:\n    strategy: Webhook\n    webhook:\n      clientConfig:\n        service:\n          namespace: system\n          name: webhook-service\n          path: /convert\n      conversionReviewVersions:\n      - v1\n",
            ),
            ("config/crd/bases/crd.yaml", CRD),
        ],
    ),
    (
        "microservices base",
        "kustomize",
        &[
            (
                "kustomize/kustomization.yaml",
                "# Copyright\n\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- base\ncomponents:\n# - components/memorystore\n# - components/network-policies",
            ),
            ("kustomize/base/kustomization.yaml", K),
            ("kustomize/base/deployment.yaml", WEB),
            ("kustomize/base/service.yaml", SERVICE),
        ],
    ),
    (
        "microservices with components",
        "kustomize",
        &[
            (
                "kustomize/kustomization.yaml",
                "resources:\n- base\ncomponents:\n- components/memorystore\n- components/network-policies\n",
            ),
            (
                "kustomize/components/memorystore/kustomization.yaml",
                "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\npatchesStrategicMerge:\n# replace the address\n- |-\n  apiVersion: apps/v1\n  kind: Deployment\n  metadata:\n    name: web\n  spec:\n    template:\n      spec:\n        containers:\n          - name: web\n            env:\n            - name: REDIS_ADDR\n              value: \"{{REDIS_ADDR}}\"\n- |-\n  apiVersion: v1\n  kind: Service\n  metadata:\n    name: web\n  $patch: delete\n",
            ),
            (
                "kustomize/components/network-policies/kustomization.yaml",
                "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources:\n  - deny-all.yaml\n",
            ),
            (
                "kustomize/components/network-policies/deny-all.yaml",
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: deny-all\nspec:\n  podSelector: {}\n  policyTypes:\n  - Ingress\n  - Egress\n",
            ),
            ("kustomize/base/kustomization.yaml", K),
            ("kustomize/base/deployment.yaml", WEB),
            ("kustomize/base/service.yaml", SERVICE),
        ],
    ),
    (
        "metrics-server release",
        "manifests/overlays/release",
        &[
            (
                "manifests/overlays/release/kustomization.yaml",
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- ../../base\ncomponents:\n- ../../components/release\n",
            ),
            (
                "manifests/components/release/kustomization.yaml",
                "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nimages:\n- name: ghcr.io/example/web\n  newName: registry.k8s.io/web\n  newTag: v0.6.4\n",
            ),
            (
                "manifests/base/kustomization.yaml",
                "commonLabels:\n  k8s-app: metrics-server\nresources:\n- deployment.yaml\n- service.yaml\n- apiservice.yaml\nnamespace: kube-system\n",
            ),
            ("manifests/base/deployment.yaml", WEB),
            ("manifests/base/service.yaml", SERVICE),
            (
                "manifests/base/apiservice.yaml",
                "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata:\n  name: v1beta1.metrics.k8s.io\nspec:\n  group: metrics.k8s.io\n  groupPriorityMinimum: 100\n  insecureSkipTLSVerify: true\n  service:\n    name: web\n    namespace: kube-system\n  version: v1beta1\n  versionPriority: 100\n",
            ),
        ],
    ),
    (
        "homelab labels",
        "kustomize",
        &[
            (
                "kustomize/kustomization.yaml",
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\ncommonLabels:\n  app.kubernetes.io/managed-by: Kustomize\nresources:\n  - ./metallb/pool.yaml",
            ),
            (
                "kustomize/metallb/pool.yaml",
                "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata:\n  name: pool\n  namespace: metallb-system\nspec:\n  addresses:\n  - 192.168.1.240-192.168.1.250\n",
            ),
        ],
    ),
    (
        "homelab app of a release",
        "kubernetes/apps/default/web/app",
        &[
            (
                "kubernetes/apps/default/web/app/kustomization.yaml",
                "---\n# yaml-language-server: $schema=https://json.schemastore.org/kustomization\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - ./release.yaml\nconfigMapGenerator:\n  - name: web-configmap\n    files:\n      - config.yaml=./resources/config.yaml\ngeneratorOptions:\n  disableNameSuffixHash: true\n  annotations:\n    kustomize.toolkit.fluxcd.io/substitute: disabled\n",
            ),
            ("kubernetes/apps/default/web/app/release.yaml", RELEASE),
            (
                "kubernetes/apps/default/web/app/resources/config.yaml",
                "---\nsettings:\n  a: ${B}\n  list: [1, 2]\n",
            ),
        ],
    ),
    (
        "homelab namespace",
        "kubernetes/apps/default",
        &[
            (
                "kubernetes/apps/default/kustomization.yaml",
                "---\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: default\ncomponents:\n  - ../../components/common\nresources:\n  - ./web/ks.yaml\n",
            ),
            (
                "kubernetes/apps/default/web/ks.yaml",
                "---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: &app web\n  namespace: &namespace default\nspec:\n  commonMetadata:\n    labels:\n      app.kubernetes.io/name: *app\n  targetNamespace: *namespace\n  interval: 1h\n  postBuild:\n    substitute:\n      APP: *app\n",
            ),
            (
                "kubernetes/components/common/kustomization.yaml",
                "---\napiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources:\n  - ./namespace.yaml\n",
            ),
            (
                "kubernetes/components/common/namespace.yaml",
                "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: _\n  annotations:\n    kustomize.toolkit.fluxcd.io/prune: disabled\n",
            ),
        ],
    ),
    (
        "overlays dev",
        "k8s/overlays/dev",
        &[
            (
                "k8s/overlays/dev/kustomization.yaml",
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\nnamespace: dev\n\nresources:\n  - ../../base\n\nreplicas:\n  - name: web\n    count: 1\n\nimages:\n  - name: ghcr.io/example/web\n    newTag: develop\n\nconfigMapGenerator:\n  - name: web-config\n    behavior: merge\n    literals:\n      - ENVIRONMENT=dev\n      - LOG_LEVEL=debug\n\nsecretGenerator:\n  - name: app-secrets\n    behavior: merge\n    literals:\n      - JWT_ACCESS_SECRET=${DEV_JWT_ACCESS_SECRET}\n",
            ),
            (
                "k8s/base/kustomization.yaml",
                "resources: [deployment.yaml, service.yaml]\nconfigMapGenerator:\n- name: web-config\n  literals: [config=base]\nsecretGenerator:\n- name: app-secrets\n  literals: [KEY=value]\n",
            ),
            ("k8s/base/deployment.yaml", WEB),
            ("k8s/base/service.yaml", SERVICE),
        ],
    ),
    (
        "overlays prod",
        "overlays/prod",
        &[
            (
                "overlays/prod/kustomization.yaml",
                "resources:\n  - ../../base\n  - ingress.yaml\nnamespace: prod\nnameSuffix: -prod\ncommonLabels:\n  env: prod\ncommonAnnotations:\n  team: platform\npatchesStrategicMerge:\n  - replicas.yaml\n",
            ),
            ("overlays/prod/ingress.yaml", INGRESS),
            ("overlays/prod/replicas.yaml", REPLICAS),
            ("base/kustomization.yaml", ALL),
            ("base/hpa.yaml", HPA),
            ("base/deployment.yaml", WEB),
            ("base/service.yaml", SERVICE),
        ],
    ),
    (
        "overlays qa by JSON patch",
        "overlays/qa",
        &[
            (
                "overlays/qa/kustomization.yaml",
                "namespace: webapp-qa\nresources:\n  - ../../base\n  - namespace.yaml\ncommonLabels:\n  environment: qa\nreplicas:\n  - name: web\n    count: 2\npatches:\n  - path: patch-annotation.yaml\n    target:\n      kind: Deployment\n      name: web\n",
            ),
            (
                "overlays/qa/patch-annotation.yaml",
                "- op: add\n  path: /metadata/annotations\n  value:\n    training.example.com/owner: qa-team\n",
            ),
            (
                "overlays/qa/namespace.yaml",
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: webapp-qa\n",
            ),
            ("base/kustomization.yaml", K),
            ("base/deployment.yaml", WEB),
            ("base/service.yaml", SERVICE),
        ],
    ),
    (
        "overlays by JSON 6902",
        "overlays/dev",
        &[
            (
                "overlays/dev/kustomization.yaml",
                "bases:\n- ../../base\npatchesJson6902:\n- target:\n    group: apps\n    version: v1\n    kind: Deployment\n    name: web\n  path: patch.json\n",
            ),
            (
                "overlays/dev/patch.json",
                "[\n  {\"op\": \"replace\", \"path\": \"/spec/replicas\", \"value\": 3},\n  {\"op\": \"add\", \"path\": \"/spec/template/spec/nodeSelector\", \"value\": {\"pool\": \"a\"}}\n]\n",
            ),
            ("base/kustomization.yml", K),
            ("base/deployment.yaml", WEB),
            ("base/service.yaml", SERVICE),
        ],
    ),
    (
        "environment files",
        "app",
        &[
            (
                "app/kustomization.yaml",
                "namespace: app\nresources: [cron.yaml]\nconfigMapGenerator:\n- name: backup-env\n  envs: [.env]\nsecretGenerator:\n- name: registry\n  type: kubernetes.io/dockerconfigjson\n  files: [.dockerconfigjson=registry.json]\n",
            ),
            ("app/cron.yaml", CRON),
            (
                "app/.env",
                "# settings\nTZ=Europe/Berlin\nURL=https://example.com/?a=b&c=d\nEMPTY=\n",
            ),
            (
                "app/registry.json",
                "{\"auths\": {\"registry.example.com\": {\"auth\": \"dXNlcjpwYXNzd29yZC10aGF0LWlzLWxvbmctZW5vdWdoLXRvLWJlLXdyYXBwZWQ=\"}}}\n",
            ),
        ],
    ),
    (
        "database with secret",
        "db",
        &[
            (
                "db/kustomization.yaml",
                "resources: [db.yaml]\nsecretGenerator:\n- name: db-credentials\n  literals:\n  - POSTGRES_USER=web\n  - POSTGRES_PASSWORD=change-me\nlabels:\n- includeSelectors: true\n  pairs:\n    app.kubernetes.io/name: db\n",
            ),
            ("db/db.yaml", STATEFUL),
        ],
    ),
    (
        "labels in templates",
        "app",
        &[
            (
                "app/kustomization.yaml",
                "labels:\n- includeSelectors: false\n  includeTemplates: true\n  pairs:\n    app.kubernetes.io/part-of: shop\n    version: \"1.2\"\nresources: [deployment.yaml, cron.yaml]\n",
            ),
            ("app/deployment.yaml", WEB),
            ("app/cron.yaml", CRON),
        ],
    ),
    (
        "two variants of one base",
        "all",
        &[
            ("all/kustomization.yaml", "resources: [../blue, ../green]\n"),
            (
                "blue/kustomization.yaml",
                "nameSuffix: -blue\ncommonLabels: {color: blue}\nresources: [../base]\n",
            ),
            (
                "green/kustomization.yaml",
                "nameSuffix: -green\ncommonLabels: {color: green}\nresources: [../base]\n",
            ),
            (
                "base/kustomization.yaml",
                "resources: [deployment.yaml, service.yaml, hpa.yaml]\nconfigMapGenerator: [{name: web-config, literals: [config=a]}]\n",
            ),
            ("base/deployment.yaml", WEB),
            ("base/service.yaml", SERVICE),
            ("base/hpa.yaml", HPA),
        ],
    ),
    (
        "ingress host by replacement",
        "overlays/a",
        &[
            (
                "overlays/a/kustomization.yaml",
                "resources: [../../base]\nreplacements:\n- path: host.yaml\nconfigMapGenerator:\n- name: env\n  literals: [host=a.example.com]\n  options: {annotations: {config.kubernetes.io/local-config: \"true\"}}\n",
            ),
            (
                "overlays/a/host.yaml",
                "source: {kind: ConfigMap, name: env, fieldPath: data.host}\ntargets:\n- select: {kind: Ingress}\n  fieldPaths: [spec.rules.0.host, spec.tls.0.hosts.0]\n",
            ),
            ("base/kustomization.yaml", "resources: [ingress.yaml]\n"),
            ("base/ingress.yaml", INGRESS),
        ],
    ),
    (
        "image by digest",
        "app",
        &[
            (
                "app/kustomization.yaml",
                "images:\n- name: ghcr.io/example/web\n  digest: sha256:24a0c4b4a4c0eb97a1aabb8e29f18e917d05abfe1b7a7c07857230879ce7d3d3\nresources: [deployment.yaml]\n",
            ),
            ("app/deployment.yaml", WEB),
        ],
    ),
    (
        "image policy marker",
        "app",
        &[
            (
                "app/kustomization.yaml",
                "resources:\n- deployment.yaml\nimages:\n- name: ghcr.io/example/web\n  newName: ghcr.io/example/web # {\"$imagepolicy\": \"flux-system:web:name\"}\n  newTag: 5.0.0 # {\"$imagepolicy\": \"flux-system:web:tag\"}\n",
            ),
            ("app/deployment.yaml", WEB),
        ],
    ),
    (
        "knative",
        "config",
        &[
            (
                "config/kustomization.yaml",
                "namespace: serving\nnamePrefix: a-\nresources: [service.yaml]\nsecretGenerator: [{name: keys, literals: [a=b]}]\n",
            ),
            (
                "config/service.yaml",
                "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  template:\n    spec:\n      containers:\n      - image: web\n        env:\n        - name: A\n          valueFrom: {secretKeyRef: {name: keys, key: a}}\n",
            ),
        ],
    ),
    (
        "volumes by merge",
        "overlays/nfs",
        &[
            (
                "overlays/nfs/kustomization.yaml",
                "resources: [../../base]\npatches:\n- path: volumes.yaml\n- path: claim.yaml\n  target: {kind: PersistentVolumeClaim}\n",
            ),
            (
                "overlays/nfs/volumes.yaml",
                "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  template:\n    spec:\n      volumes:\n      - name: data\n        emptyDir: null\n        persistentVolumeClaim:\n          claimName: data\n",
            ),
            (
                "overlays/nfs/claim.yaml",
                "- op: replace\n  path: /spec/storageClassName\n  value: nfs\n",
            ),
            (
                "base/kustomization.yaml",
                "resources: [deployment.yaml, claim.yaml]\n",
            ),
            ("base/deployment.yaml", WEB),
            (
                "base/claim.yaml",
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec:\n  accessModes: [ReadWriteOnce]\n  storageClassName: local\n  resources: {requests: {storage: 5Gi}}\n",
            ),
        ],
    ),
    (
        "cluster with everything",
        "clusters/one",
        &[
            (
                "clusters/one/kustomization.yaml",
                "resources:\n- ../../web\n- ../../db\n- ../../monitoring\n",
            ),
            (
                "web/kustomization.yaml",
                "namespace: web\nresources: [deployment.yaml, service.yaml, ingress.yaml, account.yaml, namespace.yaml]\n",
            ),
            ("web/deployment.yaml", WEB),
            ("web/service.yaml", SERVICE),
            ("web/ingress.yaml", INGRESS),
            ("web/account.yaml", ACCOUNT),
            ("web/namespace.yaml", NAMESPACE),
            (
                "db/kustomization.yaml",
                "namespace: db\nresources: [db.yaml]\nsecretGenerator: [{name: db-credentials, literals: [a=b]}]\n",
            ),
            ("db/db.yaml", STATEFUL),
            ("monitoring/kustomization.yaml", "resources: [rule.yaml]\n"),
            ("monitoring/rule.yaml", MONITOR),
        ],
    ),
    (
        "transformed by a function of vars",
        "app",
        &[
            (
                "app/kustomization.yaml",
                "resources: [deployment.yaml, service.yaml]\nvars:\n- name: SERVICE\n  objref: {kind: Service, name: web, apiVersion: v1}\n",
            ),
            ("app/deployment.yaml", WEB),
            ("app/service.yaml", SERVICE),
        ],
    ),
    (
        "plain list of many folders",
        "kubernetes/apps",
        &[
            (
                "kubernetes/apps/kustomization.yaml",
                "resources:\n  - ./a\n  - ./b/\n",
            ),
            (
                "kubernetes/apps/a/kustomization.yaml",
                "resources: [./deployment.yaml]\n",
            ),
            ("kubernetes/apps/a/deployment.yaml", WEB),
            (
                "kubernetes/apps/b/kustomization.yaml",
                "resources: [service.yaml]\n",
            ),
            ("kubernetes/apps/b/service.yaml", SERVICE),
        ],
    ),
    (
        "tolerations for all",
        "overlays/arm",
        &[
            (
                "overlays/arm/kustomization.yaml",
                "resources: [../../base]\npatches:\n- target: {group: apps|batch, version: v1}\n  patch: |\n    - op: add\n      path: /metadata/labels\n      value: {arch: arm64}\n- target: {kind: Deployment|StatefulSet}\n  patch: |\n    kind: Deployment\n    metadata: {name: ignored}\n    spec: {template: {spec: {tolerations: [{key: arch, value: arm64}]}}}\n",
            ),
            (
                "base/kustomization.yaml",
                "resources: [deployment.yaml, db.yaml, cron.yaml]\n",
            ),
            ("base/deployment.yaml", WEB),
            ("base/db.yaml", STATEFUL),
            ("base/cron.yaml", CRON),
        ],
    ),
    (
        "rename by patch",
        "overlays/b",
        &[
            (
                "overlays/b/kustomization.yaml",
                "resources: [../../base]\npatches:\n- target: {kind: Service}\n  options: {allowNameChange: true}\n  patch: |-\n    apiVersion: v1\n    kind: Service\n    metadata: {name: front}\n",
            ),
            (
                "base/kustomization.yaml",
                "resources: [service.yaml, ingress.yaml]\n",
            ),
            ("base/service.yaml", SERVICE),
            ("base/ingress.yaml", INGRESS),
        ],
    ),
];
