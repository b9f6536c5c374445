package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

const (
	// nodeName is the node that all pods are bound to.
	nodeName = "node-1"
	// behaviourAnnotation on a pod (template) says how its containers fare; see behaviours. A container's image tag that
	// is one of those words says the same.
	behaviourAnnotation = "test.tagboat.dev/pod"
	// delayAnnotation on a pod: how long it stays not ready before it fares as it shall ("1500ms").
	delayAnnotation = "test.tagboat.dev/ready-after"
)

// behaviours other than becoming ready (and succeeding, for a Job's pod).
var behaviours = []string{"unschedulable", "missing", "invalid", "config", "crash", "oom", "unready"}

// kubelet plays scheduler and kubelet for a server that runs elsewhere.
func kubelet(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("kubelet", flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the server")
	if err := flags.Parse(args); err != nil {
		return err
	}
	config, err := clientConfig(*kubeconfig)
	if err != nil {
		return err
	}
	return play(untilInputCloses(ctx), config)
}

// player holds what each step needs.
type player struct {
	client kubernetes.Interface
	pods   cache.Indexer
	claims cache.Indexer
	queue  workqueue.TypedRateLimitingInterface[task]
}

// task is one object to look at.
type task struct{ kind, key string }

// play binds pods to one node and reports their containers as running, without running any; claims are bound, too.
func play(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := makeNode(ctx, client); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods, claims := factory.Core().V1().Pods().Informer(), factory.Core().V1().PersistentVolumeClaims().Informer()
	p := &player{
		client: client,
		pods:   pods.GetIndexer(),
		claims: claims.GetIndexer(),
		queue:  workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[task](20*time.Millisecond, time.Second)),
	}
	for kind, informer := range map[string]cache.SharedIndexInformer{"pod": pods, "claim": claims} {
		add := func(object any) {
			if key, err := cache.MetaNamespaceKeyFunc(object); err == nil {
				p.queue.Add(task{kind, key})
			}
		}
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, object any) { add(object) }})
		if err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	for range 4 {
		go p.work(ctx)
	}
	<-ctx.Done()
	p.queue.ShutDown()
	return nil
}

func (p *player) work(ctx context.Context) {
	for {
		item, end := p.queue.Get()
		if end {
			return
		}
		var err error
		if item.kind == "pod" {
			err = p.pod(ctx, item)
		} else {
			err = p.claim(ctx, item)
		}
		if err == nil || apierrors.IsNotFound(err) {
			p.queue.Forget(item)
		} else {
			klog.ErrorS(err, "player", "kind", item.kind, "key", item.key)
			p.queue.AddRateLimited(item)
		}
		p.queue.Done(item)
	}
}

// pod takes one pod a step further: deleted for good, bound, or its status said.
func (p *player) pod(ctx context.Context, item task) error {
	object, exists, err := p.pods.GetByKey(item.key)
	if err != nil || !exists {
		return err
	}
	pod := object.(*corev1.Pod)
	pods := p.client.CoreV1().Pods(pod.Namespace)
	if pod.DeletionTimestamp != nil {
		return pods.Delete(ctx, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: ptr.To[int64](0),
			Preconditions:      metav1.NewUIDPreconditions(string(pod.UID)),
		})
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	how := behaviour(pod)
	if pod.Spec.NodeName == "" && how != "unschedulable" {
		binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, UID: pod.UID}, Target: corev1.ObjectReference{Kind: "Node", Name: nodeName}}
		return pods.Bind(ctx, binding, metav1.CreateOptions{})
	}
	if text := pod.Annotations[delayAnnotation]; text != "" {
		delay, err := time.ParseDuration(text)
		if left := delay - time.Since(pod.CreationTimestamp.Time); err == nil && left > 0 {
			p.queue.AddAfter(item, left)
			how = "starting"
		}
	}
	status := podStatus(pod, how)
	if same(pod, &status) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return err
	}
	_, err = pods.Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// claim says that a volume is bound.
func (p *player) claim(ctx context.Context, item task) error {
	object, exists, err := p.claims.GetByKey(item.key)
	if err != nil || !exists {
		return err
	}
	claim := object.(*corev1.PersistentVolumeClaim)
	if claim.Status.Phase == corev1.ClaimBound {
		return nil
	}
	claim = claim.DeepCopy()
	claim.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, AccessModes: claim.Spec.AccessModes, Capacity: claim.Spec.Resources.Requests}
	_, err = p.client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, claim, metav1.UpdateOptions{})
	return err
}

// behaviour is what the pod's annotation, else a container's image tag, says.
func behaviour(pod *corev1.Pod) string {
	if how := pod.Annotations[behaviourAnnotation]; how != "" {
		return how
	}
	for _, container := range pod.Spec.Containers {
		if _, tag, tagged := strings.Cut(container.Image[strings.LastIndex(container.Image, "/")+1:], ":"); tagged && slices.Contains(behaviours, tag) {
			return tag
		}
	}
	return ""
}

// same tells whether a status says what the pod's already does; times of conditions aside.
func same(pod *corev1.Pod, status *corev1.PodStatus) bool {
	if pod.Status.Phase != status.Phase || len(pod.Status.ContainerStatuses) != len(status.ContainerStatuses) {
		return false
	}
	for i, container := range status.ContainerStatuses {
		old := pod.Status.ContainerStatuses[i]
		waits := container.State.Waiting != nil
		if old.Name != container.Name || old.Ready != container.Ready || (old.State.Waiting != nil) != waits {
			return false
		}
		if waits && old.State.Waiting.Reason != container.State.Waiting.Reason {
			return false
		}
	}
	for _, condition := range status.Conditions {
		at := slices.IndexFunc(pod.Status.Conditions, func(old corev1.PodCondition) bool { return old.Type == condition.Type })
		if at < 0 || pod.Status.Conditions[at].Status != condition.Status {
			return false
		}
	}
	return true
}

// makeNode adds the node, ready and large.
func makeNode(ctx context.Context, client kubernetes.Interface) error {
	room := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("1000"),
		corev1.ResourceMemory: resource.MustParse("1000Gi"),
		corev1.ResourcePods:   resource.MustParse("100000"),
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName, Labels: map[string]string{corev1.LabelHostname: nodeName, corev1.LabelOSStable: "linux"}}}
	nodes := client.CoreV1().Nodes()
	if _, err := nodes.Create(ctx, node, metav1.CreateOptions{}); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	}
	// Patches, since controllers write to the node at the same time. A new node is tainted as not ready.
	if _, err := nodes.Patch(ctx, nodeName, types.MergePatchType, []byte(`{"spec":{"taints":null}}`), metav1.PatchOptions{}); err != nil {
		return err
	}
	now := metav1.Now()
	status, err := json.Marshal(map[string]any{"status": corev1.NodeStatus{
		Capacity:    room,
		Allocatable: room,
		Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: now, LastTransitionTime: now,
		}},
	}})
	if err != nil {
		return err
	}
	_, err = nodes.Patch(ctx, nodeName, types.MergePatchType, status, metav1.PatchOptions{}, "status")
	return err
}
