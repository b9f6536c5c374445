//! Random overlays, the same for the same seed.

/// A repository: paths and texts. The overlay is in `top`.
pub(super) type Files = Vec<(String, String)>;

/// Numbers that look random (xorshift).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

const POD: &str = "    metadata:\n      labels: {app: web}\n    spec:\n      serviceAccountName: runner\n      priorityClassName: high\n      imagePullSecrets: [{name: pull}]\n      initContainers:\n      - {name: wait, image: busybox, env: [{name: A, valueFrom: {secretKeyRef: {name: keys, key: a}}}]}\n      containers:\n      - name: app\n        image: registry.example.com:5000/shop/web:1.0.0\n        args: [--port=8080, \"yes\", \"0644\", '1.0']\n        ports:\n        - {name: http, containerPort: 8080}\n        - {name: dns, containerPort: 53, protocol: UDP}\n        - {name: dns-tcp, containerPort: 53, protocol: TCP}\n        env:\n        - {name: LEVEL, value: info}\n        - name: FROM\n          valueFrom: {configMapKeyRef: {name: settings, key: a}}\n        envFrom: [{configMapRef: {name: settings}}, {secretRef: {name: keys}}]\n        volumeMounts:\n        - {name: config, mountPath: /etc/web}\n        - {name: data, mountPath: /data}\n      - name: proxy\n        image: envoy@sha256:0123456789012345678901234567890123456789012345678901234567890123\n        resources: {limits: {cpu: 100m, memory: 64Mi}}\n      volumes:\n      - {name: config, configMap: {name: settings, defaultMode: 0644}}\n      - name: data\n        persistentVolumeClaim: {claimName: data}\n      - name: all\n        projected: {sources: [{secret: {name: keys}}, {configMap: {name: settings}}]}\n      affinity:\n        podAntiAffinity:\n          requiredDuringSchedulingIgnoredDuringExecution:\n          - {topologyKey: zone, labelSelector: {matchLabels: {app: web}}}\n";

/// A resource of each kind that references or is referenced.
fn resources() -> Vec<(&'static str, String)> {
    let workload = |kind: &str, more: &str| {
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata:\n  name: web\n  annotations: {{}}\nspec:\n  selector:\n    matchLabels: {{app: web}}\n{more}  template:\n{POD}"
        )
    };
    let cron = POD.replace("\n", "\n    ");
    let cron = format!("    {}", cron.trim_end());
    vec![
        ("deployment", workload("Deployment", "  replicas: 2\n  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}\n")),
        ("statefulset", workload("StatefulSet", "  serviceName: web\n  volumeClaimTemplates:\n  - metadata: {name: data}\n    spec: {storageClassName: fast}\n")),
        ("daemonset", workload("DaemonSet", "").replace("name: web\n  annotations", "name: agent\n  annotations")),
        ("cron", format!("apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: nightly}}\nspec:\n  schedule: \"0 0 * * *\"\n  jobTemplate:\n    spec:\n      template:\n{cron}\n")),
        ("service", "apiVersion: v1\nkind: Service\nmetadata: {name: web, labels: {app: web}}\nspec:\n  selector: {app: web}\n  ports:\n  - {name: http, port: 80, targetPort: http}\n  - {name: dns, port: 53, protocol: UDP}\n".into()),
        ("ingress", "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: web\n  annotations:\n    nginx.ingress.kubernetes.io/auth-secret: keys\nspec:\n  tls: [{hosts: [a.example.com], secretName: keys}]\n  rules:\n  - host: a.example.com\n    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}\n".into()),
        ("config", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: plain}\ndata:\n  a: \"1\"\n  text: |\n    one\n     two\n\n    three\n".into()),
        ("pull", "apiVersion: v1\nkind: Secret\nmetadata: {name: pull}\ntype: kubernetes.io/dockerconfigjson\ndata: {.dockerconfigjson: e30=}\n".into()),
        ("account", "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: runner}\nimagePullSecrets: [{name: pull}]\nsecrets: [{name: keys}]\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default}\n".into()),
        ("role", "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reader}\nrules:\n- {apiGroups: [\"\"], resources: [configmaps], resourceNames: [settings, plain], verbs: [get]}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: reader}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}\nsubjects:\n- {kind: ServiceAccount, name: runner}\n- {kind: ServiceAccount, name: default, namespace: elsewhere}\n- {kind: User, name: anna}\n".into()),
        ("cluster", "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: reader}\nrules: []\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: reader}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}\nsubjects: [{kind: ServiceAccount, name: runner, namespace: system}]\n".into()),
        ("scaler", "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: web}\nspec:\n  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}\n  minReplicas: 1\n  maxReplicas: 3\n  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}]\n".into()),
        ("claim", "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], storageClassName: fast, resources: {requests: {storage: 1Gi}}}\n---\napiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: fast}\nprovisioner: example.com/disk\nparameters: {secretRef: keys}\n".into()),
        ("policy", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  ingress: [{from: [{podSelector: {matchLabels: {app: front}}}, {namespaceSelector: {}}]}]\n---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: web}\nspec: {minAvailable: 1, selector: {matchLabels: {app: web}}}\n".into()),
        ("namespace", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels:\n".into()),
        ("priority", "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: high}\nvalue: 100000\n".into()),
        ("hook", "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: web}\nwebhooks:\n- {name: a.example.com, clientConfig: {service: {name: web, namespace: shop, path: /a}}}\n- {name: b.example.com, clientConfig: {url: \"https://b.example.com\"}}\n".into()),
        ("definition", "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example.com}\nspec:\n  group: example.com\n  names: {kind: Widget, plural: widgets}\n  scope: Namespaced\n  conversion: {strategy: Webhook, webhook: {conversionReviewVersions: [v1], clientConfig: {service: {name: web, namespace: shop}}}}\n  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]\n---\napiVersion: example.com/v1\nkind: Widget\nmetadata: {name: one, finalizers: [example.com/a]}\nspec:\n  ratio: 1.5\n  empty:\n  written: null\n  list: [{name: a, v: 1}, {name: b, v: 2}]\n  template: {spec: {containers: [{name: app, image: \"registry.example.com:5000/shop/web:2\"}]}}\n".into()),
        ("listed", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: listed-a}, data: {a: b}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: listed-b}}\n".into()),
    ]
}

/// Entries of `patches`.
const PATCHES: [&str; 26] = [
    "- target: {kind: Deployment}\n  patch: |-\n    - op: replace\n      path: /spec/replicas\n      value: 5\n",
    "- target: {kind: Deployment|StatefulSet, name: web}\n  patch: |-\n    - {op: add, path: /metadata/annotations/example.com~1a, value: \"b\"}\n    - {op: add, path: /spec/template/spec/containers/0/args/-, value: --more}\n    - {op: remove, path: /spec/template/spec/containers/0/env/0}\n",
    "- target: {labelSelector: app=web}\n  patch: '[{\"op\": \"add\", \"path\": \"/metadata/labels/patched\", \"value\": \"true\"}]'\n",
    "- target: {kind: Ingress}\n  patch: |-\n    - {op: replace, path: /spec/rules/0/host, value: b.example.com}\n    - {op: copy, from: /spec/rules/0, path: /spec/rules/-}\n    - {op: test, path: /spec/rules/1/host, value: b.example.com}\n",
    "- target: {group: apps, version: v1, kind: .*Set}\n  patch: |-\n    apiVersion: apps/v1\n    kind: StatefulSet\n    metadata: {name: any}\n    spec: {template: {spec: {nodeSelector: {disk: ssd}}}}\n",
    "- target: {kind: Deployment}\n  patch: |-\n    kind: Deployment\n    metadata: {name: any, labels: {more: \"1\"}}\n    spec:\n      template:\n        spec:\n          containers:\n          - {name: app, env: [{name: LEVEL, value: debug}, {name: NEW, value: \"1\"}]}\n          - {name: extra, image: extra:1}\n",
    "- target: {kind: Deployment}\n  patch: |-\n    kind: Deployment\n    metadata: {name: any}\n    spec:\n      template:\n        spec:\n          containers:\n          - {name: proxy, $patch: delete}\n          - name: app\n            ports: [{containerPort: 53, protocol: UDP, name: changed}, {containerPort: 9090}]\n          volumes: [{name: more, emptyDir: {}}]\n",
    "- target: {kind: StatefulSet}\n  patch: |-\n    kind: StatefulSet\n    metadata: {name: any}\n    spec:\n      replicas: 3\n      template:\n        spec:\n          initContainers: null\n          containers:\n          - {name: app, args: [one], volumeMounts: [{mountPath: /data, name: data, readOnly: true}]}\n          tolerations: [{key: a, operator: Exists}]\n",
    "- target: {kind: Service}\n  patch: |-\n    apiVersion: v1\n    kind: Service\n    metadata: {name: any}\n    spec:\n      type: LoadBalancer\n      ports: [{port: 80, targetPort: 8080}, {port: 443, name: tls}]\n",
    "- target: {kind: Service}\n  patch: |-\n    apiVersion: v1\n    kind: Service\n    metadata: {name: any}\n    spec:\n      ports:\n      - {port: 53, protocol: TCP, name: dns-tcp}\n      - {port: 53, protocol: UDP, name: dns-udp}\n",
    "- target: {kind: Widget}\n  patch: |-\n    apiVersion: example.com/v1\n    kind: Widget\n    metadata: {name: any, finalizers: [example.com/b]}\n    spec: {list: [{name: c}], ratio: 2, template: {spec: {nodeName: a}}}\n",
    "- target: {kind: Widget}\n  patch: |-\n    - {op: replace, path: /spec/ratio, value: 0.25}\n    - {op: add, path: /spec/list/0, value: {name: first, v: null}}\n    - {op: move, from: /spec/list/1, path: /spec/moved}\n",
    "- target: {kind: ConfigMap, name: plain}\n  patch: |-\n    apiVersion: v1\n    kind: ConfigMap\n    metadata: {name: plain}\n    data: {a: null, b: \"two\", c: 'x: y'}\n",
    "- target: {kind: ConfigMap, name: plain}\n  options: {allowNameChange: true}\n  patch: |-\n    apiVersion: v1\n    kind: ConfigMap\n    metadata: {name: renamed}\n",
    "- target: {kind: CronJob}\n  patch: |-\n    apiVersion: batch/v1\n    kind: CronJob\n    metadata: {name: any}\n    $patch: delete\n",
    "- target: {kind: DaemonSet}\n  patch: |-\n    apiVersion: apps/v1\n    kind: DaemonSet\n    metadata: {name: any}\n    spec:\n      template:\n        spec:\n          affinity: {$patch: replace, nodeAffinity: {}}\n          volumes:\n          - $patch: replace\n          - {name: only, emptyDir: {}}\n",
    "- target: {kind: CronJob}\n  patch: |-\n    - {op: replace, path: /spec/schedule, value: '5 * * * *'}\n    - {op: add, path: /spec/suspend, value: true}\n    - {op: replace, path: /spec/notThere, value: 1}\n",
    "- target: {kind: NetworkPolicy}\n  patch: |-\n    apiVersion: networking.k8s.io/v1\n    kind: NetworkPolicy\n    metadata: {name: any}\n    spec: {ingress: [{from: [{podSelector: {matchLabels: {app: other}}}]}], policyTypes: [Ingress]}\n",
    "- target: {kind: ServiceAccount, name: runner}\n  patch: |-\n    apiVersion: v1\n    kind: ServiceAccount\n    metadata: {name: runner, annotations: {role: a}}\n    secrets: [{name: other}]\n    imagePullSecrets: [{name: other}]\n",
    "- target: {kind: ValidatingWebhookConfiguration}\n  patch: |-\n    apiVersion: admissionregistration.k8s.io/v1\n    kind: ValidatingWebhookConfiguration\n    metadata: {name: any}\n    webhooks: [{name: a.example.com, failurePolicy: Ignore}, {name: c.example.com}]\n",
    "- target: {kind: HorizontalPodAutoscaler}\n  patch: |-\n    apiVersion: autoscaling/v2\n    kind: HorizontalPodAutoscaler\n    metadata: {name: any}\n    spec: {maxReplicas: 9, metrics: [{type: Pods}]}\n",
    "- target: {kind: PersistentVolumeClaim|Secret}\n  patch: |-\n    - {op: add, path: /metadata/labels, value: {a: b}}\n",
    "- target: {annotationSelector: 'example.com/a'}\n  patch: |-\n    - {op: add, path: /metadata/annotations/seen, value: 'yes'}\n",
    "- target: {kind: Deployment}\n  patch: |-\n    kind: Deployment\n    metadata: {name: any}\n    spec:\n      strategy: {$patch: delete}\n      template: {spec: {containers: [{name: app, ports: [{containerPort: 8080, protocol: TCP}], resources: {limits: {cpu: 1}}}]}}\n",
    "- target: {kind: RoleBinding}\n  patch: |-\n    - {op: replace, path: /subjects/0/name, value: default}\n    - {op: add, path: /subjects/-, value: {kind: ServiceAccount, name: runner, namespace: default}}\n",
    "- target: {kind: Deployment|DaemonSet, name: web|agent}\n  patch: |-\n    kind: Deployment\n    metadata: {name: any}\n    spec:\n      template:\n        spec:\n          containers: [{name: app, image: other/app, env: [{name: LEVEL, value: null}, {name: FROM, $patch: delete}]}]\n          topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, maxSkew: 1, labelSelector: {matchLabels: {app: web}}}]\n",
];

/// Entries of `replacements` whose source is always there.
const REPLACEMENTS: [&str; 5] = [
    "- source: {kind: ConfigMap, name: settings}\n  targets:\n  - select: {kind: Deployment}\n    fieldPaths: [\"spec.template.spec.containers.[name=app].env.[name=LEVEL].value\"]\n",
    "- source: {kind: ConfigMap, name: settings, fieldPath: data.a}\n  targets:\n  - select: {kind: StatefulSet}\n    fieldPaths: [metadata.annotations.copied]\n    options: {create: true}\n",
    "- source: {kind: ConfigMap, name: settings, fieldPath: data.list, options: {delimiter: \",\", index: 1}}\n  targets:\n  - select: {kind: Ingress}\n    fieldPaths: [spec.rules.0.host]\n    options: {delimiter: \".\", index: 0}\n",
    "- sourceValue: fixed\n  targets:\n  - select: {kind: Service}\n    reject: [{name: other}]\n    fieldPaths: [metadata.labels.app]\n",
    "- source: {kind: ConfigMap, name: settings, fieldPath: data.a}\n  targets:\n  - select: {kind: Deployment|DaemonSet}\n    fieldPaths: [\"spec.template.spec.containers.*.image\", \"spec.template.metadata.labels.[example.com/part]\"]\n    options: {create: true}\n",
];

/// Makes an overlay on a base.
pub(super) fn random(seed: u64) -> Files {
    let mut random = Random::new(seed);
    let mut files = Files::new();
    let mut names = Vec::new();
    for (name, text) in resources() {
        if random.one_in(3) {
            continue;
        }
        names.push(format!("{name}.yaml"));
        files.push((format!("base/{name}.yaml"), text));
    }
    let resources: String = names.iter().map(|name| format!("- {name}\n")).collect();
    let mut base = format!("resources:\n{resources}");
    if resources.is_empty() {
        base = "resources: []\n".to_owned();
    }
    base.push_str(&generators(&mut random, &mut files));
    if random.one_in(2) {
        base.push_str(&transformers(&mut random, &resources, false));
    }
    files.push(("base/kustomization.yaml".into(), base));
    let mut below = "../base";
    if random.one_in(3) {
        let middle = format!(
            "resources: [{below}]\n{}",
            transformers(&mut random, &resources, true)
        );
        files.push(("middle/kustomization.yaml".into(), middle));
        below = "../middle";
    }
    let mut top = format!("resources: [{below}]\n");
    if random.one_in(3) {
        top.push_str("components: [../part]\n");
        let part = format!(
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n{}",
            transformers(&mut random, &resources, true)
        );
        files.push(("part/kustomization.yaml".into(), part));
    }
    if random.one_in(3) {
        top.push_str("configMapGenerator:\n- name: settings\n  behavior: merge\n  literals: [a=merged, more=1]\n");
    }
    top.push_str(&transformers(&mut random, &resources, true));
    match random.below(6) {
        0 => top.push_str("sortOptions: {order: fifo}\n"),
        1 => top.push_str("sortOptions: {order: legacy, legacySortOptions: {orderFirst: [Service, Namespace], orderLast: [Secret]}}\n"),
        _ => {}
    }
    files.push(("top/kustomization.yaml".into(), top));
    files
}

fn generators(random: &mut Random, files: &mut Files) -> String {
    let mut text = "configMapGenerator:\n- name: settings\n  literals: [a=one, 'list=x,y,z', 'quoted=\"q\"']\n".to_owned();
    if random.one_in(2) {
        text.push_str("  files: [motd.txt, other=odd.txt]\n  envs: [vars.env]\n");
        let odd = *random.pick(&[
            "  two\n\ttab \n",
            "<a&b>\n",
            "{\"a\": [1]}",
            "",
            "\n\nx",
            "caf\u{e9} \u{2028}",
            "line\r\nnext\r\n",
            " \n ",
        ]);
        files.push(("base/motd.txt".into(), "hello\nthere\n".into()));
        files.push(("base/odd.txt".into(), odd.into()));
        files.push((
            "base/vars.env".into(),
            "# a note\nX=1\n Y = two \nEMPTY=\nALONE\n".into(),
        ));
    }
    if random.one_in(3) {
        text.push_str(
            "  options: {disableNameSuffixHash: true, labels: {grafana_dashboard: \"1\"}}\n",
        );
    }
    text.push_str("secretGenerator:\n- name: keys\n  literals: [a=secret, long=0123456789012345678901234567890123456789012345678901234567890123456789]\n");
    if random.one_in(3) {
        text.push_str("  type: kubernetes.io/basic-auth\n");
    }
    if random.one_in(4) {
        text.push_str("generatorOptions: {immutable: true, annotations: {made: here}}\n");
    }
    text
}

fn transformers(random: &mut Random, resources: &str, replaces: bool) -> String {
    let mut text = String::new();
    let mut maybe = |random: &mut Random, count: usize, part: &str| {
        if random.one_in(count) {
            text.push_str(part);
        }
    };
    let namespace = format!("namespace: {}\n", random.pick(&["shop", "dev", "default"]));
    maybe(random, 2, &namespace);
    maybe(random, 3, "namePrefix: pre-\n");
    maybe(random, 4, "nameSuffix: -v2\n");
    maybe(random, 4, "commonLabels: {team: blue, app: web}\n");
    maybe(random, 4, "commonAnnotations: {note: \"0\", who: me}\n");
    maybe(random, 3, "labels:\n- pairs: {env: dev, tier: \"1\"}\n");
    let images = match random.below(5) {
        0 => {
            "images:\n- {name: registry.example.com:5000/shop/web, newTag: 2.0.0}\n- {name: busybox, newName: mirror/busybox, digest: \"sha256:abc\"}\n"
        }
        1 => "images:\n- {name: envoy, newTag: v1}\n- {name: busybox, tagSuffix: -alpine}\n",
        _ => "",
    };
    maybe(random, 1, images);
    if resources.contains("deployment") && !resources.contains("cluster.yaml") {
        maybe(random, 4, "commonAnnotations: {note: b}\n");
    }
    if resources.contains("- deployment") {
        maybe(random, 3, "replicas: [{name: web, count: 7}]\n");
    }
    if replaces && random.one_in(3) {
        let one = *random.pick(&REPLACEMENTS);
        let needs = [
            ("Deployment", "- deployment"),
            ("Ingress", "- ingress"),
            ("StatefulSet", "- statefulset"),
        ];
        if needs
            .iter()
            .all(|(kind, file)| !one.contains(kind) || resources.contains(file))
        {
            text.push_str("replacements:\n");
            text.push_str(one);
        }
    }
    let count = random.below(4);
    if count > 0 {
        text.push_str("patches:\n");
        for _ in 0..count {
            let patch = *random.pick(PATCHES.as_slice());
            text.push_str(patch);
        }
    }
    let mut lines = std::collections::BTreeSet::new();
    // A field is written once.
    let mut keep = true;
    text.split_inclusive('\n')
        .filter(|line| {
            if line.starts_with(|c: char| c.is_ascii_alphabetic()) {
                let name = line.split(':').next().unwrap_or_default().to_owned();
                keep = lines.insert(name);
            }
            keep
        })
        .collect()
}
