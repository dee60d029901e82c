{{- define "keyvault-csi.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "keyvault-csi.fullname" -}}
{{- $name := include "keyvault-csi.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* The labels by which the DaemonSet knows its pods: they can never change. */ -}}
{{- define "keyvault-csi.selectorLabels" -}}
app.kubernetes.io/name: {{ include "keyvault-csi.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* The labels of all objects, but for those that the chart sets: a key that is there twice is no YAML. */ -}}
{{- define "keyvault-csi.commonLabels" -}}
{{- with omit (.Values.commonLabels | default dict) "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component"
  "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- /* The nodes of the pods. */ -}}
{{- define "keyvault-csi.nodeSelector" -}}
{{- merge (dict "kubernetes.io/os" "linux") (.Values.nodeSelector | default dict) | toYaml }}
{{- end }}

{{- /* Those of the pods: nothing that changes with every version of the chart, or each would restart the drivers. */ -}}
{{- define "keyvault-csi.podLabels" -}}
{{- with include "keyvault-csi.commonLabels" . }}
{{- . }}
{{ end -}}
{{ include "keyvault-csi.selectorLabels" . }}
app.kubernetes.io/component: csi-driver
{{- end }}

{{- define "keyvault-csi.labels" -}}
{{ include "keyvault-csi.podLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* labelsWith of the root and more labels. One that is set replaces the chart's: a key that is there twice is no YAML. */ -}}
{{- define "keyvault-csi.labelsWith" -}}
{{- mergeOverwrite (include "keyvault-csi.labels" (index . 0) | fromYaml) (index . 1 | default dict) | toYaml }}
{{- end }}

{{- /* The registry of a repository is its first part, if that has a dot or a port, or is localhost. */ -}}
{{- define "keyvault-csi.image" -}}
{{- $repository := .Values.image.repository }}
{{- with .Values.global.imageRegistry }}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" $repository "") }}
{{- end }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- /* Those of the chart and of the charts around it, each once. The latter may be names alone. */ -}}
{{- define "keyvault-csi.imagePullSecrets" -}}
{{- $names := list }}
{{- range concat (.Values.imagePullSecrets | default list) (.Values.global.imagePullSecrets | default list) }}
{{- $names = append $names (kindIs "string" . | ternary . (get (kindIs "map" . | ternary . dict) "name")) }}
{{- end }}
{{- range $names | uniq }}
- name: {{ . }}
{{- end }}
{{- end }}

{{- define "keyvault-csi.serviceAccount" -}}
{{- if or .Values.serviceAccount.create .Values.serviceAccount.name }}
{{- .Values.serviceAccount.name | default (include "keyvault-csi.fullname" .) }}
{{- else }}
{{- fail "serviceAccount.name: name the service account, or let the chart create one (serviceAccount.create)" }}
{{- end }}
{{- end }}

{{- /* The annotations of an object, or nothing. Its argument is a list of the context, and of the annotations of this object alone, which win. */ -}}
{{- define "keyvault-csi.annotations" -}}
{{- with merge dict (index . 1 | default dict) ((index . 0).Values.commonAnnotations | default dict) -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* What Entra ID of that cloud expects as the audience of a service account token. */ -}}
{{- define "keyvault-csi.tokenAudience" -}}
{{- if eq .Values.cloud.name "AzureUSGovernmentCloud" -}}
api://AzureADTokenExchangeUSGov
{{- else if eq .Values.cloud.name "AzureChinaCloud" -}}
api://AzureADTokenExchangeChina
{{- else -}}
api://AzureADTokenExchange
{{- end }}
{{- end }}

{{- define "keyvault-csi.caConfigMap" -}}
{{- if .Values.caBundle.pem }}
{{- include "keyvault-csi.fullname" . }}-ca
{{- else }}
{{- .Values.caBundle.existingConfigMap }}
{{- end }}
{{- end }}

{{- define "keyvault-csi.policyConfigMap" -}}
{{- if not (kindIs "invalid" .Values.policy.rules) }}
{{- include "keyvault-csi.fullname" . }}-policy
{{- else }}
{{- .Values.policy.existingConfigMap }}
{{- end }}
{{- end }}

{{- /* Fails where the cluster has no MutatingAdmissionPolicy. Its argument is a list of the value that asks for one, and the context. */ -}}
{{- define "keyvault-csi.needsMutatingAdmissionPolicy" -}}
{{- if semverCompare "<1.36.0-0" (index . 1).Capabilities.KubeVersion.Version }}
{{- fail (printf "%s needs Kubernetes 1.36 or newer (MutatingAdmissionPolicy)" (index . 0)) }}
{{- end }}
{{- end }}

{{- /* The field of a binding that limits its policy to some namespaces. */ -}}
{{- define "keyvault-csi.admissionNamespaces" -}}
{{- with .Values.admission.namespaceSelector -}}
matchResources:
  namespaceSelector:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end }}

{{- define "keyvault-csi.vaultSuffix" -}}
{{- if .Values.cloud.vaultDNSSuffix }}
{{- lower .Values.cloud.vaultDNSSuffix }}
{{- else if eq .Values.cloud.name "AzureUSGovernmentCloud" -}}
vault.usgovcloudapi.net
{{- else if eq .Values.cloud.name "AzureChinaCloud" -}}
vault.azure.cn
{{- else -}}
vault.azure.net
{{- end }}
{{- end }}

{{- /* One regular expression for globs of vaults, as a string of CEL. */ -}}
{{- define "keyvault-csi.vaultPattern" -}}
{{- $patterns := list }}
{{- range . }}
{{- $patterns = append $patterns (lower . | trimSuffix "/" | regexQuoteMeta | replace "\\*" ".*") }}
{{- end -}}
r'^({{ join "|" $patterns }})(:443)?/?$'
{{- end }}
