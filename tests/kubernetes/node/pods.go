package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// pods are the pods of the node, by namespace and name.
type pods struct {
	client kubernetes.Interface
	folder string
	node   string
	mutex  sync.Mutex
	pods   map[string]*pod
	// Of the node, once that is known to be there.
	address string
	// Pods that were seen.
	count int
}

type pod struct {
	uid   string
	mains map[string]*process
}

func newPods(client kubernetes.Interface, folder, node string) *pods {
	return &pods{client: client, folder: folder, node: node, pods: map[string]*pod{}}
}

func (p *pods) get(name string) *pod {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.pods[name]
}

func (p *pods) main(name, container string) *process {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if pod := p.pods[name]; pod != nil {
		return pod.mains[container]
	}
	return nil
}

// follow watches all pods, again and again as watches end.
func (p *pods) follow(ctx context.Context) {
	for {
		if err := p.watch(ctx); err != nil {
			log.Println("watch:", err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (p *pods) watch(ctx context.Context) error {
	events, err := p.client.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		object, ok := event.Object.(*corev1.Pod)
		if !ok {
			return fmt.Errorf("watch answered %v", event.Object)
		}
		if event.Type == watch.Deleted {
			p.forget(object)
			continue
		}
		p.see(ctx, object)
	}
	return nil
}

func (p *pods) forget(object *corev1.Pod) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	name := object.Namespace + "/" + object.Name
	gone := p.pods[name]
	if gone == nil || gone.uid != string(object.UID) {
		return
	}
	delete(p.pods, name)
	for _, m := range gone.mains {
		m.stdin.Close()
	}
	os.RemoveAll(filepath.Join(p.folder, name))
}

// see binds a pod that has no node yet, and starts the containers that it has gained.
func (p *pods) see(ctx context.Context, object *corev1.Pod) {
	if object.Spec.NodeName == "" {
		if len(object.Spec.SchedulingGates) > 0 || object.DeletionTimestamp != nil {
			return
		}
		binding := &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: object.Name, UID: object.UID},
			Target:     corev1.ObjectReference{Kind: "Node", Name: p.node},
		}
		err := p.client.CoreV1().Pods(object.Namespace).Bind(ctx, binding, metav1.CreateOptions{})
		if err != nil {
			log.Println("bind:", err)
		}
		return
	}
	if object.DeletionTimestamp != nil {
		p.remove(ctx, object)
		return
	}
	if object.Status.Phase == corev1.PodSucceeded || object.Status.Phase == corev1.PodFailed {
		return
	}
	name := object.Namespace + "/" + object.Name
	p.mutex.Lock()
	defer p.mutex.Unlock()
	known := p.pods[name]
	if known == nil || known.uid != string(object.UID) {
		if err := os.MkdirAll(filepath.Join(p.folder, name), 0o755); err != nil {
			log.Println("folder:", err)
			return
		}
		known = &pod{uid: string(object.UID), mains: map[string]*process{}}
		p.pods[name] = known
		if object.Status.Phase != corev1.PodRunning {
			p.count++
			go p.ready(object, p.count)
		}
	}
	if object.Status.Phase != corev1.PodRunning {
		return
	}
	for _, container := range object.Spec.Containers {
		p.begin(name, known, object, container.Name, container.Command, container.Args, container.TTY, false)
	}
	for _, container := range object.Spec.EphemeralContainers {
		p.begin(name, known, object, container.Name, container.Command, container.Args, container.TTY, true)
	}
}

// begin starts a container if it is new; the mutex is held.
func (p *pods) begin(name string, known *pod, object *corev1.Pod, container string, command, arguments []string, tty, ephemeral bool) {
	if known.mains[container] != nil {
		return
	}
	command = append(append([]string{}, command...), arguments...)
	if len(command) == 0 {
		// There is no image whose entry point it could be: something that stays, or a shell where
		// somebody is expected to type.
		command = []string{"sh", "-c", `echo "container $CONTAINER of $HOSTNAME"; exec sh`}
		if !tty && !ephemeral {
			command = []string{"sh", "-c", `echo "container $CONTAINER of $HOSTNAME"; exec sleep infinity`}
		}
	}
	m, err := p.launch(name, container, command, tty)
	if err != nil {
		log.Println("launch:", err)
		return
	}
	known.mains[container] = m
	started := metav1.Now()
	if ephemeral {
		go p.ephemeral(object, container, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: started}})
	}
	go func() {
		<-m.done
		ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: int32(m.code), Reason: reason(m.code), StartedAt: started, FinishedAt: metav1.Now(),
		}}
		if ephemeral {
			p.ephemeral(object, container, ended)
			return
		}
		p.ended(object, container, ended)
	}()
}

func reason(code int) string {
	if code == 0 {
		return "Completed"
	}
	return "Error"
}

// update changes a pod's status; the pod may have gone meanwhile.
func (p *pods) update(object *corev1.Pod, change func(*corev1.Pod)) {
	pods := p.client.CoreV1().Pods(object.Namespace)
	for attempt := 0; attempt < 10; attempt++ {
		current, err := pods.Get(context.Background(), object.Name, metav1.GetOptions{})
		if err != nil || current.UID != object.UID {
			return
		}
		change(current)
		if _, err = pods.UpdateStatus(context.Background(), current, metav1.UpdateOptions{}); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *pods) ephemeral(object *corev1.Pod, container string, state corev1.ContainerState) {
	p.update(object, func(pod *corev1.Pod) {
		status := corev1.ContainerStatus{Name: container, State: state, ContainerID: "process://" + container}
		for i := range pod.Status.EphemeralContainerStatuses {
			if pod.Status.EphemeralContainerStatuses[i].Name == container {
				pod.Status.EphemeralContainerStatuses[i] = status
				return
			}
		}
		pod.Status.EphemeralContainerStatuses = append(pod.Status.EphemeralContainerStatuses, status)
	})
}

// ended tells that a container is over, and the pod with it when all are and nothing restarts them.
func (p *pods) ended(object *corev1.Pod, container string, state corev1.ContainerState) {
	p.update(object, func(pod *corev1.Pod) {
		over, failed := 0, false
		for i := range pod.Status.ContainerStatuses {
			status := &pod.Status.ContainerStatuses[i]
			if status.Name == container {
				status.State, status.Ready, status.Started = state, false, new(bool)
			}
			if status.State.Terminated != nil {
				over++
				failed = failed || status.State.Terminated.ExitCode != 0
			}
		}
		restarts := pod.Spec.RestartPolicy == corev1.RestartPolicyAlways ||
			failed && pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure
		if restarts || over < len(pod.Spec.Containers) {
			return
		}
		pod.Status.Phase = corev1.PodSucceeded
		if failed {
			pod.Status.Phase = corev1.PodFailed
		}
	})
}
