"""Runs commands as jobs of a Ray cluster, through the job server of its dashboard.

job         what a job runs and what it needs
package     the files that it gets, and their size
cluster     requests to the job server; each ends in time
follow      its log, across lost connections, and its exit code
stop        its end; a run writes a checkpoint before
request     runs on the cluster: asks a run to stop whose folder is seen from there alone
kuberay     the same job as a manifest for KubeRay
"""
