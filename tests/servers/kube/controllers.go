package main

import (
	"context"
	"flag"
	"io"
	"os"
	"os/exec"

	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

// controllers runs kube-controller-manager until its standard input closes.
func controllers(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("controllers", flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the server")
	key := flags.String("service-account-key", "", "the key that signs tokens of ServiceAccounts")
	ca := flags.String("root-ca", "", "the authority that pods are told to trust")
	if err := flags.Parse(args); err != nil {
		return err
	}
	command := app.NewControllerManagerCommand()
	command.SetArgs([]string{
		"--kubeconfig=" + *kubeconfig,
		"--service-account-private-key-file=" + *key,
		"--root-ca-file=" + *ca,
		"--leader-elect=false",
		"--secure-port=0",
		"--allocate-node-cidrs=false",
		// What watches nodes would evict the pods of one that nobody runs; volumes are bound by the player; scaling by
		// load has no metrics.
		"--controllers=*,-node-lifecycle-controller,-taint-eviction-controller,-node-ipam-controller,-node-route-controller," +
			"-service-lb-controller,-persistentvolume-binder-controller,-persistentvolume-attach-detach-controller," +
			"-persistentvolume-expander-controller,-ephemeral-volume-controller,-horizontal-pod-autoscaler-controller",
		"--kube-api-qps=2000",
		"--kube-api-burst=4000",
	})
	failed := make(chan error, 1)
	go func() { failed <- command.ExecuteContext(ctx) }()
	select {
	case err := <-failed:
		return err
	case <-untilInputCloses(ctx).Done():
		return nil
	}
}

// manager is kube-controller-manager as a child process of the same program.
type manager struct {
	command *exec.Cmd
	input   io.Closer
}

// spawnControllers starts it; it ends with this process, since its standard input then closes.
func spawnControllers(kubeconfig, key, ca string, log *os.File) (*manager, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.Command(self, "controllers", "--kubeconfig", kubeconfig, "--service-account-key", key, "--root-ca", ca)
	command.Stdout = log
	command.Stderr = log
	input, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	return &manager{command, input}, command.Start()
}

func (m *manager) wait() error { return m.command.Wait() }

func (m *manager) end() {
	_ = m.input.Close()
	_ = m.command.Process.Kill()
}
