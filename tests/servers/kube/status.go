package main

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// podStatus is what a kubelet would report of a pod that fares like this, with the messages of a real one.
func podStatus(pod *corev1.Pod, how string) corev1.PodStatus {
	now := metav1.Now()
	if how == "unschedulable" {
		return corev1.PodStatus{
			Phase: corev1.PodPending,
			Conditions: []corev1.PodCondition{{
				Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, LastTransitionTime: now,
				Message: "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
			}},
		}
	}
	job := slices.ContainsFunc(pod.OwnerReferences, func(owner metav1.OwnerReference) bool { return owner.Kind == "Job" })
	status := corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &now, HostIP: "127.0.0.1", PodIP: "127.0.0.1", PodIPs: []corev1.PodIP{{IP: "127.0.0.1"}}}
	ready := true
	for _, container := range pod.Spec.InitContainers {
		status.InitContainerStatuses = append(status.InitContainerStatuses, corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, ImageID: container.Image, Ready: true,
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed", StartedAt: now, FinishedAt: now}},
		})
	}
	for _, container := range pod.Spec.Containers {
		one := containerStatus(pod, container, how, now)
		if job && (how == "" || how == "crash") {
			ended := &corev1.ContainerStateTerminated{Reason: "Completed", StartedAt: now, FinishedAt: now}
			status.Phase = corev1.PodSucceeded
			if how == "crash" {
				ended.Reason, ended.ExitCode = "Error", 1
				status.Phase = corev1.PodFailed
			}
			one = corev1.ContainerStatus{Name: container.Name, Image: container.Image, ImageID: container.Image, State: corev1.ContainerState{Terminated: ended}}
		}
		if one.State.Waiting != nil && how != "crash" && how != "oom" {
			status.Phase = corev1.PodPending
		}
		ready = ready && one.Ready
		status.ContainerStatuses = append(status.ContainerStatuses, one)
	}
	status.Conditions = []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now},
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: now},
		{Type: corev1.ContainersReady, Status: corev1.ConditionTrue, LastTransitionTime: now},
		{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: now},
	}
	if !ready {
		for i := range status.Conditions[2:] {
			condition := &status.Conditions[2+i]
			condition.Status, condition.Reason = corev1.ConditionFalse, "ContainersNotReady"
			if status.Phase == corev1.PodSucceeded {
				condition.Reason = "PodCompleted"
				continue
			}
			condition.Message = fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready(status.ContainerStatuses), " "))
		}
	}
	return status
}

// containerStatus is the same for one container.
func containerStatus(pod *corev1.Pod, container corev1.Container, how string, now metav1.Time) corev1.ContainerStatus {
	no, yes := false, true
	status := corev1.ContainerStatus{Name: container.Name, Image: container.Image, Started: &no}
	wait := func(reason, message string) corev1.ContainerStatus {
		status.State.Waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: message}
		return status
	}
	ended := func(reason string, code int32) {
		status.ImageID = container.Image
		status.RestartCount = 3
		status.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code, StartedAt: now, FinishedAt: now}
	}
	again := fmt.Sprintf("back-off 40s restarting failed container=%s pod=%s_%s(%s)", container.Name, pod.Name, pod.Namespace, pod.UID)
	switch how {
	case "missing":
		return wait("ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s: not found", container.Image, container.Image))
	case "invalid":
		return wait("InvalidImageName", fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name", container.Image))
	case "config":
		return wait("CreateContainerConfigError", `configmap "absent" not found`)
	case "starting":
		return wait("ContainerCreating", "")
	case "crash":
		ended("Error", 1)
		return wait("CrashLoopBackOff", again)
	case "oom":
		ended("OOMKilled", 137)
		return wait("CrashLoopBackOff", again)
	}
	status.ImageID = container.Image
	status.Started = &yes
	status.Ready = how != "unready"
	status.State.Running = &corev1.ContainerStateRunning{StartedAt: now}
	return status
}

// unready names the containers that are not ready.
func unready(statuses []corev1.ContainerStatus) []string {
	var names []string
	for _, status := range statuses {
		if !status.Ready {
			names = append(names, status.Name)
		}
	}
	return names
}
