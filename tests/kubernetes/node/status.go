package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"runtime"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// report says that the node is there, as soon as somebody has made its object. No controller of the
// tests takes a node for lost that says nothing more.
func (p *pods) report(ctx context.Context, listen string) {
	for {
		err := p.reportOnce(ctx, listen)
		if err == nil {
			return
		}
		if !apierrors.IsNotFound(err) {
			log.Println("report:", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (p *pods) reportOnce(ctx context.Context, listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return err
	}
	nodes := p.client.CoreV1().Nodes()
	node, err := nodes.Get(ctx, p.node, metav1.GetOptions{})
	if err != nil {
		return err
	}
	p.mutex.Lock()
	p.address = host
	p.mutex.Unlock()
	room := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("1k"),
		corev1.ResourceMemory: resource.MustParse("1Ti"),
		corev1.ResourcePods:   resource.MustParse("1M"),
	}
	now := metav1.Now()
	node.Status.Phase = corev1.NodeRunning
	node.Status.Capacity, node.Status.Allocatable = room, room
	node.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: host},
		{Type: corev1.NodeHostName, Address: p.node},
	}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(number)
	node.Status.NodeInfo = corev1.NodeSystemInfo{
		Architecture: runtime.GOARCH, OperatingSystem: runtime.GOOS,
		KubeletVersion: "of-the-tests", ContainerRuntimeVersion: "process://0",
	}
	node.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		Message: "it runs what pods have as their commands", LastHeartbeatTime: now, LastTransitionTime: now,
	}}
	_, err = nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

// ready tells that a pod runs: there is nothing to fetch or to wait for.
func (p *pods) ready(object *corev1.Pod, number int) {
	p.mutex.Lock()
	address := p.address
	p.mutex.Unlock()
	p.update(object, func(pod *corev1.Pod) {
		now := metav1.Now()
		running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}
		yes := true
		status := corev1.PodStatus{
			Phase: corev1.PodRunning, StartTime: &now, QOSClass: pod.Status.QOSClass,
			PodIP: fmt.Sprintf("10.1.%d.%d", number/250%250, number%250+1),
		}
		if address != "" {
			status.HostIP, status.HostIPs = address, []corev1.HostIP{{IP: address}}
		}
		status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
		types := []corev1.PodConditionType{corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled}
		for _, gate := range pod.Spec.ReadinessGates {
			types = append(types, gate.ConditionType)
		}
		for _, kind := range types {
			condition := corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now}
			status.Conditions = append(status.Conditions, condition)
		}
		for _, container := range pod.Spec.Containers {
			status.ContainerStatuses = append(status.ContainerStatuses, corev1.ContainerStatus{
				Name: container.Name, Image: container.Image, ImageID: container.Image, Ready: true, Started: &yes,
				State: running, ContainerID: "process://" + container.Name,
			})
		}
		for _, container := range pod.Spec.InitContainers {
			initial := corev1.ContainerStatus{Name: container.Name, Image: container.Image, Ready: true, State: running, Started: &yes}
			if container.RestartPolicy == nil || *container.RestartPolicy != corev1.ContainerRestartPolicyAlways {
				initial.Started = nil
				initial.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
					Reason: "Completed", StartedAt: now, FinishedAt: now,
				}}
			}
			status.InitContainerStatuses = append(status.InitContainerStatuses, initial)
		}
		status.EphemeralContainerStatuses = pod.Status.EphemeralContainerStatuses
		pod.Status = status
	})
}

// remove lets go of a pod that somebody has deleted: its processes end when its object is gone.
func (p *pods) remove(ctx context.Context, object *corev1.Pod) {
	now := int64(0)
	options := metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: metav1.NewUIDPreconditions(string(object.UID))}
	err := p.client.CoreV1().Pods(object.Namespace).Delete(ctx, object.Name, options)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		log.Println("delete:", err)
	}
}
