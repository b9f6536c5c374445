package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// users is a flag that may be given several times: NAME[:GROUP,…].
type users []string

func (u *users) String() string         { return strings.Join(*u, " ") }
func (u *users) Set(value string) error { *u = append(*u, value); return nil }

// ready is the line that serve prints.
type ready struct {
	// Kubeconfig of the administrator.
	Kubeconfig string `json:"kubeconfig"`
	Server     string `json:"server"`
	// CA is the file of the authority that signed the server's certificate.
	CA string `json:"ca"`
	// Token of the administrator, who is in system:masters.
	Token string `json:"token"`
	// Tokens of the users named by --user, who have no rights but those that RBAC gives them.
	Tokens map[string]string `json:"tokens"`
}

// serve runs etcd and kube-apiserver, and what the flags name, until it is told to end.
func serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	dir := flags.String("dir", "", "folder for all data, emptied at the end; default: a temporary one")
	withControllers := flags.Bool("controllers", false, "run kube-controller-manager, too")
	playKubelet := flags.Bool("play-kubelet", false, "bind pods and report them as running, or failing as their annotation or image tag says")
	fairness := flags.Bool("enable-priority-and-fairness", true, "API priority and fairness, as in a real cluster")
	stay := flags.Bool("stay", false, "do not end when standard input closes")
	var named users
	flags.Var(&named, "user", "NAME[:GROUP,…]: a user with a token and no rights; may be repeated")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if !*stay {
		ctx = untilInputCloses(ctx)
	}
	folder := *dir
	if folder == "" {
		made, err := os.MkdirTemp("", "tagboat-kube-")
		if err != nil {
			return err
		}
		folder = made
	}
	defer os.RemoveAll(folder)
	log, err := os.Create(filepath.Join(folder, "apiserver.log"))
	if err != nil {
		return err
	}
	quiet(log)

	etcd, err := startEtcd(folder)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	accounts, err := writeTokens(folder, named)
	if err != nil {
		return err
	}
	key, err := writeServiceAccountKey(folder)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ca := filepath.Join(folder, "apiserver.crt")
	answer := ready{
		Kubeconfig: filepath.Join(folder, "kubeconfig"),
		Server:     "https://" + listener.Addr().String(),
		CA:         ca,
		Token:      accounts["admin"],
		Tokens:     accounts,
	}
	flagged := []string{
		"--etcd-servers=" + etcd,
		"--cert-dir=" + folder,
		"--token-auth-file=" + filepath.Join(folder, "tokens.csv"),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + key,
		"--service-account-signing-key-file=" + key,
		"--service-cluster-ip-range=10.0.0.0/16",
		"--endpoint-reconciler-type=none",
		"--allow-privileged=true",
		// A benchmark of writes shall measure the server, not its limits.
		"--max-requests-inflight=4000",
		"--max-mutating-requests-inflight=2000",
		fmt.Sprintf("--enable-priority-and-fairness=%t", *fairness),
	}
	if !*withControllers {
		// Nobody makes the default ServiceAccount that this plugin asks for.
		flagged = append(flagged, "--disable-admission-plugins=ServiceAccount")
	}
	failed := make(chan error, 3)
	go func() { failed <- serveAPI(ctx, listener, flagged) }()

	if err := awaitFile(ctx, ca, failed); err != nil {
		return withLog(err, log.Name())
	}
	if err := writeKubeconfig(answer); err != nil {
		return err
	}
	config, err := clientConfig(answer.Kubeconfig)
	if err != nil {
		return err
	}
	if err := awaitReady(ctx, config, failed); err != nil {
		return withLog(err, log.Name())
	}
	if *withControllers {
		output, err := os.Create(filepath.Join(folder, "controllers.log"))
		if err != nil {
			return err
		}
		child, err := spawnControllers(answer.Kubeconfig, key, ca, output)
		if err != nil {
			return err
		}
		defer child.end()
		go func() { failed <- withLog(child.wait(), output.Name()) }()
		if err := awaitServiceAccount(ctx, config, failed); err != nil {
			return err
		}
	}
	if *playKubelet {
		go func() { failed <- play(ctx, config) }()
	}
	line, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	select {
	case <-ctx.Done():
		// Nothing is worth keeping: the data goes with the folder, and connections with the process.
		return nil
	case err := <-failed:
		return withLog(err, log.Name())
	}
}

// serveAPI runs kube-apiserver on a listener, with flags as on its command line.
func serveAPI(ctx context.Context, listener net.Listener, args []string) error {
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	run := options.NewServerRunOptions()
	flags := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, set := range run.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	run.SecureServing.Listener = listener
	run.SecureServing.BindPort = listener.Addr().(*net.TCPAddr).Port
	run.SecureServing.BindAddress = listener.Addr().(*net.TCPAddr).IP
	run.SecureServing.ExternalAddress = listener.Addr().(*net.TCPAddr).IP
	if err := run.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	completed, err := run.Complete(ctx)
	if err != nil {
		return err
	}
	if errs := completed.Validate(); len(errs) != 0 {
		return utilerrors.NewAggregate(errs)
	}
	if err := app.Run(ctx, completed); err != nil {
		return err
	}
	if ctx.Err() == nil {
		return errors.New("kube-apiserver ended unasked")
	}
	return nil
}

// quiet sends what the server logs to a file.
func quiet(log *os.File) {
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	_ = flags.Set("logtostderr", "false")
	_ = flags.Set("alsologtostderr", "false")
	_ = flags.Set("stderrthreshold", "FATAL")
	klog.SetOutput(log)
}

// withLog adds the end of a log to an error.
func withLog(err error, path string) error {
	if err == nil {
		return nil
	}
	klog.Flush()
	text, _ := os.ReadFile(path)
	if len(text) > 4000 {
		text = text[len(text)-4000:]
	}
	return fmt.Errorf("%w\n%s", err, text)
}

// await asks until the answer is yes, for at most a minute.
func await(ctx context.Context, what string, failed <-chan error, done func() bool) error {
	end := time.Now().Add(time.Minute)
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within a minute", what)
		}
	}
	return nil
}

func awaitFile(ctx context.Context, path string, failed <-chan error) error {
	return await(ctx, path, failed, func() bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() > 0
	})
}

// awaitReady waits for /readyz, and for the namespace that everything lands in by default.
func awaitReady(ctx context.Context, config *rest.Config, failed <-chan error) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	return await(ctx, "kube-apiserver is ready", failed, func() bool {
		if _, err := client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
			return false
		}
		_, err := client.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{})
		return err == nil
	})
}

// awaitServiceAccount waits for the first work of kube-controller-manager, without which no pod is admitted.
func awaitServiceAccount(ctx context.Context, config *rest.Config, failed <-chan error) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	return await(ctx, "kube-controller-manager makes ServiceAccounts", failed, func() bool {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			klog.ErrorS(err, "waiting for the default ServiceAccount")
		}
		return err == nil
	})
}

// clientConfig reads a kubeconfig for a client without limits of its own.
func clientConfig(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return config, nil
}
