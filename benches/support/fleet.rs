//! A generated fleet of manifests: 10,000 files, of which every fifth has an image with a marker.

pub(crate) const FILES: usize = 10_000;

/// Path and content of every file, equal for equal seeds.
pub(crate) fn fleet(seed: u64) -> Vec<(String, String)> {
    let mut state = seed | 1;
    let mut random = move |below: u64| {
        // xorshift64: good enough to make files differ.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let kinds = [
        "deployment",
        "service",
        "configmap",
        "ingress",
        "serviceaccount",
    ];
    let mut out = Vec::with_capacity(FILES);
    for app in 0..FILES / kinds.len() {
        let folder = format!(
            "clusters/cluster-{:02}/team-{:02}/app-{app}",
            app / 200,
            app / 10 % 20
        );
        for kind in kinds {
            out.push((
                format!("{folder}/{kind}.yaml"),
                manifest(kind, app, &mut random),
            ));
        }
    }
    out
}

fn manifest(kind: &str, app: usize, random: &mut impl FnMut(u64) -> u64) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: {kind}\nmetadata:\n  name: app-{app}\n  namespace: team-{}\n  labels:\n    app.kubernetes.io/name: app-{app}\n    \
         app.kubernetes.io/part-of: fleet\n    checksum: \"{:016x}\"\nspec:\n",
        app / 10 % 20,
        random(u64::MAX)
    );
    if kind == "deployment" {
        let tag = format!("6.{}.{}", random(20), random(10));
        text.push_str(&format!(
            "  replicas: {}\n  template:\n    spec:\n      containers:\n        - name: app\n          image: registry.example.org/team/app-{}:{tag} \
             # {{\"$imagepolicy\": \"apps:app-{}\"}}\n          ports:\n            - containerPort: 8080\n          env:\n",
            random(5) + 1,
            app % 50,
            app % 50
        ));
    }
    for n in 0..8 + random(8) {
        text.push_str(&format!(
            "          - name: SETTING_{n}\n            value: \"{:x}\"\n",
            random(1 << 40)
        ));
    }
    text
}
