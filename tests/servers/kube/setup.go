package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/keyutil"
)

// startEtcd runs etcd in this process on free loopback ports and gives its address. It never syncs to disk: the data
// lives as long as the test.
func startEtcd(folder string) (string, error) {
	loopback := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	config := embed.NewConfig()
	config.Dir = filepath.Join(folder, "etcd")
	config.UnsafeNoFsync = true
	config.LogLevel = "error"
	config.LogOutputs = []string{filepath.Join(folder, "etcd.log")}
	config.QuotaBackendBytes = 4 << 30
	config.ListenClientUrls = []url.URL{loopback}
	config.AdvertiseClientUrls = []url.URL{loopback}
	config.ListenPeerUrls = []url.URL{loopback}
	config.AdvertisePeerUrls = []url.URL{loopback}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return "", err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return "http://" + etcd.Clients[0].Addr().String(), nil
	case err := <-etcd.Err():
		return "", err
	case <-time.After(30 * time.Second):
		return "", errors.New("not ready within 30 s")
	}
}

// writeTokens writes the static token file: "admin" in system:masters, and the named users.
func writeTokens(folder string, named users) (map[string]string, error) {
	tokens := map[string]string{}
	file, err := os.OpenFile(filepath.Join(folder, "tokens.csv"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := csv.NewWriter(file)
	for _, user := range append(users{"admin:system:masters"}, named...) {
		name, groups, _ := strings.Cut(user, ":")
		if name == "" || tokens[name] != "" {
			return nil, fmt.Errorf("--user %q: names must be there and differ", user)
		}
		random := make([]byte, 16)
		if _, err := rand.Read(random); err != nil {
			return nil, err
		}
		tokens[name] = hex.EncodeToString(random)
		if err := lines.Write([]string{tokens[name], name, name, groups}); err != nil {
			return nil, err
		}
	}
	lines.Flush()
	return tokens, lines.Error()
}

// writeServiceAccountKey writes the key that signs the tokens of ServiceAccounts.
func writeServiceAccountKey(folder string) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	text, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "service-account.key")
	return path, os.WriteFile(path, text, 0o600)
}

// writeKubeconfig writes the administrator's kubeconfig.
func writeKubeconfig(answer ready) error {
	ca, err := os.ReadFile(answer.CA)
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{Server: answer.Server, CertificateAuthorityData: ca}
	config.AuthInfos["admin"] = &clientcmdapi.AuthInfo{Token: answer.Token}
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "admin"}
	config.CurrentContext = "test"
	return clientcmd.WriteToFile(*config, answer.Kubeconfig)
}
