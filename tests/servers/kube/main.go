// Command kube is a Kubernetes control plane for tests, in one program: etcd and kube-apiserver in this process, and
// on request kube-controller-manager (a child process of the same program, since both own the same global flags) and
// something that plays scheduler and kubelet, so that a Deployment becomes ready with no container run anywhere.
//
//	kube serve [--dir DIR] [--controllers] [--play-kubelet] [--user NAME[:GROUP,…]]… [--stay]
//	kube controllers --kubeconfig FILE --service-account-key FILE --root-ca FILE
//	kube kubelet --kubeconfig FILE
//
// Everything listens on loopback. `serve` prints one line of JSON when the server is ready and ends with SIGTERM, or
// when its standard input closes: a test that is killed leaves nothing behind.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	commands := map[string]func(context.Context, []string) error{
		"serve":       serve,
		"controllers": controllers,
		"kubelet":     kubelet,
	}
	var run func(context.Context, []string) error
	if len(os.Args) > 1 {
		run = commands[os.Args[1]]
	}
	if run == nil {
		fmt.Fprintln(os.Stderr, "kube: one of the commands serve, controllers, kubelet is needed")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "kube %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// untilInputCloses ends with the process that holds the other end of standard input.
func untilInputCloses(ctx context.Context) context.Context {
	ctx, stop := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return ctx
}
