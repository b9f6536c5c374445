//! A generated config repository: 10,000 YAML files of 2,000 applications, each with one marked
//! image.

use std::{fs, io, path::Path};

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Generated {
    pub files: usize,
    pub markers: usize,
    pub bytes: usize,
}

/// Writes the repository below `root`. Equal seeds give equal bytes.
pub(crate) fn generate(root: &Path, seed: u64) -> io::Result<Generated> {
    let mut random = seed | 1;
    let mut done = Generated::default();
    for app in 0..2_000 {
        let (cluster, team) = (app / 200, app / 10 % 20);
        let folder = root.join(format!(
            "clusters/cluster-{cluster:02}/team-{team:02}/app-{app}"
        ));
        fs::create_dir_all(&folder)?;
        // xorshift64: good enough to make files differ.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        for (name, text) in files(app, cluster, team, random) {
            done.files += 1;
            done.markers += usize::from(text.contains("$imagepolicy"));
            done.bytes += text.len();
            fs::write(folder.join(name), text)?;
        }
    }
    Ok(done)
}

fn files(app: u64, cluster: u64, team: u64, random: u64) -> [(&'static str, String); 5] {
    let head = |version: &str, kind: &str, suffix: &str| {
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: app-{app}{suffix}\n  namespace: team-{team:02}\n  labels:\n    app.kubernetes.io/name: app-{app}\n    cluster: cluster-{cluster:02}\n"
        )
    };
    let (minor, patch) = (random % 40, random / 64 % 17);
    let deployment = format!(
        "{}spec:\n  replicas: {}\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: app-{app}\n  template:\n    metadata:\n      labels:\n        app.kubernetes.io/name: app-{app}\n    spec:\n      containers:\n        - name: main\n          image: ghcr.io/example/app-{app}:1.{minor}.{patch} # {{\"$imagepolicy\": \"flux-system:app-{app}\"}}\n          ports:\n            - containerPort: 8080\n",
        head("apps/v1", "Deployment", ""),
        random % 5 + 1,
    );
    let cron_job = format!(
        "{}spec:\n  schedule: \"{} 3 * * *\"\n  concurrencyPolicy: Forbid\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          restartPolicy: OnFailure\n          containers:\n            - name: cleanup\n              image: docker.io/library/busybox:1.{}.0\n              args: [\"sh\", \"-c\", \"echo app-{app}\"]\n",
        head("batch/v1", "CronJob", "-cleanup"),
        random % 60,
        random % 37,
    );
    let service = format!(
        "{}  annotations:\n    example.com/owner: \"team {team}\"\nspec:\n  type: ClusterIP\n  selector:\n    app.kubernetes.io/name: app-{app}\n  ports:\n    - name: http\n      port: {}\n      targetPort: 8080\n      protocol: TCP\n    - name: metrics\n      port: 9090\n",
        head("v1", "Service", ""),
        8000 + random % 900,
    );
    let config = format!(
        "{}data:\n  # settings of the application\n  LOG_LEVEL: info\n  LISTEN: \":8080\"\n  DATABASE_HOST: db-{team}.cluster-{cluster:02}.internal\n  CACHE_TTL: \"{}\"\n  app.properties: |\n    feature.one=true\n    feature.two=false\n    timeout={}\n    name=app-{app}\n",
        head("v1", "ConfigMap", "-config"),
        random % 3600,
        random % 300,
    );
    let scaler = format!(
        "{}spec:\n  scaleTargetRef:\n    apiVersion: apps/v1\n    kind: Deployment\n    name: app-{app}\n  minReplicas: 1\n  maxReplicas: {}\n  metrics:\n    - type: Resource\n      resource:\n        name: cpu\n        target: {{type: Utilization, averageUtilization: {}}}\n",
        head("autoscaling/v2", "HorizontalPodAutoscaler", ""),
        random % 10 + 2,
        50 + random % 40,
    );
    [
        ("deployment.yaml", deployment),
        ("cronjob.yaml", cron_job),
        ("service.yaml", service),
        ("configmap.yaml", config),
        ("hpa.yaml", scaler),
    ]
}
