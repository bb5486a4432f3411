"""libvirt's procedures as data: number, name, public function, who may call it, arguments, answer.

One procedure per entry; an indented line goes on with the one before. Who may call it: `r` everybody, `c`
everybody except with flags that ask for secrets or for the guest's agent, `w` nobody on a read-only
connection; `s` behind it: a stream follows the answer; `e`: no call but an event. Types: `virtsnap.wire.xdr`.
Left out: migration, and what manages networks, interfaces, filters, secrets and host devices; of these there
are only the calls that list.

`OWN` is what libvirt has no procedure for, in a program of our own.

Source: the protocol description that libvirt 11.3 publishes. Numbers, order and limits of fields are the
protocol's; an added procedure is an added line.
"""

STRUCTS = """
domain = name: string, uuid: uuid, id: int
domain_checkpoint = name: string, dom: domain
domain_disk_error = disk: string, error: int
domain_event_balloon_change_msg = dom: domain, actual: uhyper
domain_event_block_job_msg = dom: domain, path: string, type: int, status: int
domain_event_control_error_msg = dom: domain
domain_event_device_removed_msg = dom: domain, devAlias: string
domain_event_disk_change_msg = dom: domain, oldSrcPath: string?, newSrcPath: string?, devAlias: string,
  reason: int
domain_event_graphics_address = family: int, node: string, service: string
domain_event_graphics_identity = type: string, name: string
domain_event_graphics_msg = dom: domain, phase: int, local: domain_event_graphics_address, remote:
  domain_event_graphics_address, authScheme: string, subject: domain_event_graphics_identity<20>
domain_event_io_error_msg = dom: domain, srcPath: string, devAlias: string, action: int
domain_event_io_error_reason_msg = dom: domain, srcPath: string, devAlias: string, action: int, reason:
  string
domain_event_lifecycle_msg = dom: domain, event: int, detail: int
domain_event_pmsuspend_disk_msg = dom: domain
domain_event_pmsuspend_msg = dom: domain
domain_event_pmwakeup_msg = dom: domain
domain_event_reboot_msg = dom: domain
domain_event_rtc_change_msg = dom: domain, offset: hyper
domain_event_tray_change_msg = dom: domain, devAlias: string, reason: int
domain_event_watchdog_msg = dom: domain, action: int
domain_fsinfo = mountpoint: string, name: string, fstype: string, dev_aliases: string<256>
domain_get_security_label_ret = label: int<4097>, enforcing: int
domain_interface = name: string, hwaddr: string?, addrs: domain_ip_addr<2048>
domain_iothread_info = iothread_id: uint, cpumap: bytes<2048>
domain_ip_addr = type: int, addr: string, prefix: uint
domain_memory_stat = tag: int, val: uhyper
domain_snapshot = name: string, dom: domain
domain_stats_record = dom: domain, params: typed_param<262144>
interface = name: string, mac: string
network = name: string, uuid: uuid
node_device = name: string
node_get_cpu_stats = field: string, value: uhyper
node_get_memory_stats = field: string, value: uhyper
nwfilter = name: string, uuid: uuid
nwfilter_binding = portdev: string, filtername: string
secret = uuid: uuid, usageType: int, usageID: string
storage_pool = name: string, uuid: uuid
storage_vol = pool: string, name: string, key: string
vcpu_info = number: uint, state: int, cpu_time: uhyper, cpu: int
"""

REMOTE = """
1 connect_open virConnectOpen r (name: string?, flags: uint)
2 connect_close virConnectClose r ()
3 connect_get_type virConnectGetType r () -> (type: string)
4 connect_get_version virConnectGetVersion r () -> (hv_ver: uhyper)
5 connect_get_max_vcpus virConnectGetMaxVcpus r (type: string?) -> (max_vcpus: int)
6 node_get_info virNodeGetInfo r () -> (model: int[32], memory: uhyper, cpus: int, mhz: int, nodes: int,
  sockets: int, cores: int, threads: int)
7 connect_get_capabilities virConnectGetCapabilities r () -> (capabilities: string)
8 domain_attach_device virDomainAttachDevice w (dom: domain, xml: string)
9 domain_create virDomainCreate w (dom: domain)
10 domain_create_xml virDomainCreateXML w (xml_desc: string, flags: uint) -> (dom: domain)
11 domain_define_xml virDomainDefineXML w (xml: string) -> (dom: domain)
12 domain_destroy virDomainDestroy w (dom: domain)
13 domain_detach_device virDomainDetachDevice w (dom: domain, xml: string)
14 domain_get_xml_desc virDomainGetXMLDesc c (dom: domain, flags: uint) -> (xml: string)
15 domain_get_autostart virDomainGetAutostart r (dom: domain) -> (autostart: int)
16 domain_get_info virDomainGetInfo r (dom: domain) -> (state: uint, maxMem: uhyper, memory: uhyper,
  nrVirtCpu: uint, cpuTime: uhyper)
17 domain_get_max_memory virDomainGetMaxMemory r (dom: domain) -> (memory: uhyper)
18 domain_get_max_vcpus virDomainGetMaxVcpus r (dom: domain) -> (num: int)
19 domain_get_os_type virDomainGetOSType r (dom: domain) -> (type: string)
20 domain_get_vcpus virDomainGetVcpus r (dom: domain, maxinfo: int, maplen: int) -> (info: vcpu_info<16384>,
  cpumaps: bytes<8388608>)
21 connect_list_defined_domains virConnectListDefinedDomains r (maxnames: int) -> (names: string<16384>)
22 domain_lookup_by_id virDomainLookupByID r (id: int) -> (dom: domain)
23 domain_lookup_by_name virDomainLookupByName r (name: string) -> (dom: domain)
24 domain_lookup_by_uuid virDomainLookupByUUID r (uuid: uuid) -> (dom: domain)
25 connect_num_of_defined_domains virConnectNumOfDefinedDomains r () -> (num: int)
26 domain_pin_vcpu virDomainPinVcpu w (dom: domain, vcpu: uint, cpumap: bytes<2048>)
27 domain_reboot virDomainReboot w (dom: domain, flags: uint)
28 domain_resume virDomainResume w (dom: domain)
29 domain_set_autostart virDomainSetAutostart w (dom: domain, autostart: int)
30 domain_set_max_memory virDomainSetMaxMemory w (dom: domain, memory: uhyper)
31 domain_set_memory virDomainSetMemory w (dom: domain, memory: uhyper)
32 domain_set_vcpus virDomainSetVcpus w (dom: domain, nvcpus: uint)
33 domain_shutdown virDomainShutdown w (dom: domain)
34 domain_suspend virDomainSuspend w (dom: domain)
35 domain_undefine virDomainUndefine w (dom: domain)
36 connect_list_defined_networks virConnectListDefinedNetworks r (maxnames: int) -> (names: string<16384>)
37 connect_list_domains virConnectListDomains r (maxids: int) -> (ids: int<16384>)
38 connect_list_networks virConnectListNetworks r (maxnames: int) -> (names: string<16384>)
43 network_get_xml_desc virNetworkGetXMLDesc r (net: network, flags: uint) -> (xml: string)
44 network_get_autostart virNetworkGetAutostart r (net: network) -> (autostart: int)
45 network_get_bridge_name virNetworkGetBridgeName r (net: network) -> (name: string)
46 network_lookup_by_name virNetworkLookupByName r (name: string) -> (net: network)
47 network_lookup_by_uuid virNetworkLookupByUUID r (uuid: uuid) -> (net: network)
50 connect_num_of_defined_networks virConnectNumOfDefinedNetworks r () -> (num: int)
51 connect_num_of_domains virConnectNumOfDomains r () -> (num: int)
52 connect_num_of_networks virConnectNumOfNetworks r () -> (num: int)
53 domain_core_dump virDomainCoreDump w (dom: domain, to: string, flags: uint)
54 domain_restore virDomainRestore w (from: string)
55 domain_save virDomainSave w (dom: domain, to: string)
56 domain_get_scheduler_type virDomainGetSchedulerType r (dom: domain) -> (type: string, nparams: int)
57 domain_get_scheduler_parameters virDomainGetSchedulerParameters r (dom: domain, nparams: int) -> (params:
  typed_param<16>)
58 domain_set_scheduler_parameters virDomainSetSchedulerParameters w (dom: domain, params: typed_param<16>)
59 connect_get_hostname virConnectGetHostname r () -> (hostname: string)
60 connect_supports_feature virConnectSupportsFeature r (feature: int) -> (supported: int)
64 domain_block_stats virDomainBlockStats r (dom: domain, path: string) -> (rd_req: hyper, rd_bytes: hyper,
  wr_req: hyper, wr_bytes: hyper, errs: hyper)
65 domain_interface_stats virDomainInterfaceStats r (dom: domain, device: string) -> (rx_bytes: hyper,
  rx_packets: hyper, rx_errs: hyper, rx_drop: hyper, tx_bytes: hyper, tx_packets: hyper, tx_errs: hyper,
  tx_drop: hyper)
66 auth_list - r () -> (types: int<20>)
71 connect_num_of_storage_pools virConnectNumOfStoragePools r () -> (num: int)
72 connect_list_storage_pools virConnectListStoragePools r (maxnames: int) -> (names: string<16384>)
73 connect_num_of_defined_storage_pools virConnectNumOfDefinedStoragePools r () -> (num: int)
74 connect_list_defined_storage_pools virConnectListDefinedStoragePools r (maxnames: int) -> (names:
  string<16384>)
76 storage_pool_create_xml virStoragePoolCreateXML w (xml: string, flags: uint) -> (pool: storage_pool)
77 storage_pool_define_xml virStoragePoolDefineXML w (xml: string, flags: uint) -> (pool: storage_pool)
78 storage_pool_create virStoragePoolCreate w (pool: storage_pool, flags: uint)
79 storage_pool_build virStoragePoolBuild w (pool: storage_pool, flags: uint)
80 storage_pool_destroy virStoragePoolDestroy w (pool: storage_pool)
81 storage_pool_delete virStoragePoolDelete w (pool: storage_pool, flags: uint)
82 storage_pool_undefine virStoragePoolUndefine w (pool: storage_pool)
83 storage_pool_refresh virStoragePoolRefresh w (pool: storage_pool, flags: uint)
84 storage_pool_lookup_by_name virStoragePoolLookupByName r (name: string) -> (pool: storage_pool)
85 storage_pool_lookup_by_uuid virStoragePoolLookupByUUID r (uuid: uuid) -> (pool: storage_pool)
86 storage_pool_lookup_by_volume virStoragePoolLookupByVolume r (vol: storage_vol) -> (pool: storage_pool)
87 storage_pool_get_info virStoragePoolGetInfo r (pool: storage_pool) -> (state: uint, capacity: uhyper,
  allocation: uhyper, available: uhyper)
88 storage_pool_get_xml_desc virStoragePoolGetXMLDesc r (pool: storage_pool, flags: uint) -> (xml: string)
89 storage_pool_get_autostart virStoragePoolGetAutostart r (pool: storage_pool) -> (autostart: int)
90 storage_pool_set_autostart virStoragePoolSetAutostart w (pool: storage_pool, autostart: int)
91 storage_pool_num_of_volumes virStoragePoolNumOfVolumes r (pool: storage_pool) -> (num: int)
92 storage_pool_list_volumes virStoragePoolListVolumes r (pool: storage_pool, maxnames: int) -> (names:
  string<16384>)
93 storage_vol_create_xml virStorageVolCreateXML w (pool: storage_pool, xml: string, flags: uint) -> (vol:
  storage_vol)
94 storage_vol_delete virStorageVolDelete w (vol: storage_vol, flags: uint)
95 storage_vol_lookup_by_name virStorageVolLookupByName r (pool: storage_pool, name: string) -> (vol:
  storage_vol)
96 storage_vol_lookup_by_key virStorageVolLookupByKey r (key: string) -> (vol: storage_vol)
97 storage_vol_lookup_by_path virStorageVolLookupByPath r (path: string) -> (vol: storage_vol)
98 storage_vol_get_info virStorageVolGetInfo r (vol: storage_vol) -> (type: int, capacity: uhyper,
  allocation: uhyper)
99 storage_vol_get_xml_desc virStorageVolGetXMLDesc r (vol: storage_vol, flags: uint) -> (xml: string)
100 storage_vol_get_path virStorageVolGetPath r (vol: storage_vol) -> (name: string)
101 node_get_cells_free_memory virNodeGetCellsFreeMemory r (startCell: int, maxcells: int) -> (cells:
  uhyper<1024>)
102 node_get_free_memory virNodeGetFreeMemory r () -> (freeMem: uhyper)
103 domain_block_peek virDomainBlockPeek w (dom: domain, path: string, offset: uhyper, size: uint, flags:
  uint) -> (buffer: bytes<4194304>)
104 domain_memory_peek virDomainMemoryPeek w (dom: domain, offset: uhyper, size: uint, flags: uint) ->
  (buffer: bytes<4194304>)
105 connect_domain_event_register virConnectDomainEventRegister r () -> (cb_registered: int)
106 connect_domain_event_deregister virConnectDomainEventDeregister r () -> (cb_registered: int)
107 domain_event_lifecycle - e (dom: domain, event: int, detail: int)
110 connect_get_uri virConnectGetURI r () -> (uri: string)
111 node_num_of_devices virNodeNumOfDevices r (cap: string?, flags: uint) -> (num: int)
112 node_list_devices virNodeListDevices r (cap: string?, maxnames: int, flags: uint) -> (names:
  string<65536>)
113 node_device_lookup_by_name virNodeDeviceLookupByName r (name: string) -> (dev: node_device)
114 node_device_get_xml_desc virNodeDeviceGetXMLDesc r (name: string, flags: uint) -> (xml: string)
115 node_device_get_parent virNodeDeviceGetParent r (name: string) -> (parentName: string?)
116 node_device_num_of_caps virNodeDeviceNumOfCaps r (name: string) -> (num: int)
117 node_device_list_caps virNodeDeviceListCaps r (name: string, maxnames: int) -> (names: string<65536>)
121 domain_get_security_label virDomainGetSecurityLabel r (dom: domain) -> (label: int<4097>, enforcing:
  int)
122 node_get_security_model virNodeGetSecurityModel r () -> (model: int<257>, doi: int<257>)
125 storage_vol_create_xml_from virStorageVolCreateXMLFrom w (pool: storage_pool, xml: string, clonevol:
  storage_vol, flags: uint) -> (vol: storage_vol)
126 connect_num_of_interfaces virConnectNumOfInterfaces r () -> (num: int)
127 connect_list_interfaces virConnectListInterfaces r (maxnames: int) -> (names: string<16384>)
137 connect_num_of_defined_interfaces virConnectNumOfDefinedInterfaces r () -> (num: int)
138 connect_list_defined_interfaces virConnectListDefinedInterfaces r (maxnames: int) -> (names:
  string<16384>)
139 connect_num_of_secrets virConnectNumOfSecrets r () -> (num: int)
140 connect_list_secrets virConnectListSecrets r (maxuuids: int) -> (uuids: string<16384>)
149 connect_is_secure virConnectIsSecure r () -> (secure: int)
150 domain_is_active virDomainIsActive r (dom: domain) -> (active: int)
151 domain_is_persistent virDomainIsPersistent r (dom: domain) -> (persistent: int)
152 network_is_active virNetworkIsActive r (net: network) -> (active: int)
153 network_is_persistent virNetworkIsPersistent r (net: network) -> (persistent: int)
154 storage_pool_is_active virStoragePoolIsActive r (pool: storage_pool) -> (active: int)
155 storage_pool_is_persistent virStoragePoolIsPersistent r (pool: storage_pool) -> (persistent: int)
157 connect_get_lib_version virConnectGetLibVersion r () -> (lib_ver: uhyper)
159 domain_memory_stats virDomainMemoryStats r (dom: domain, maxStats: uint, flags: uint) -> (stats:
  domain_memory_stat<1024>)
160 domain_attach_device_flags virDomainAttachDeviceFlags w (dom: domain, xml: string, flags: uint)
161 domain_detach_device_flags virDomainDetachDeviceFlags w (dom: domain, xml: string, flags: uint)
163 domain_get_job_info virDomainGetJobInfo r (dom: domain) -> (type: int, timeElapsed: uhyper,
  timeRemaining: uhyper, dataTotal: uhyper, dataProcessed: uhyper, dataRemaining: uhyper, memTotal: uhyper,
  memProcessed: uhyper, memRemaining: uhyper, fileTotal: uhyper, fileProcessed: uhyper, fileRemaining:
  uhyper)
164 domain_abort_job virDomainAbortJob w (dom: domain)
165 storage_vol_wipe virStorageVolWipe w (vol: storage_vol, flags: uint)
167 connect_domain_event_register_any virConnectDomainEventRegisterAny r (eventID: int)
168 connect_domain_event_deregister_any virConnectDomainEventDeregisterAny r (eventID: int)
169 domain_event_reboot - e (dom: domain)
170 domain_event_rtc_change - e (dom: domain, offset: hyper)
171 domain_event_watchdog - e (dom: domain, action: int)
172 domain_event_io_error - e (dom: domain, srcPath: string, devAlias: string, action: int)
173 domain_event_graphics - e (dom: domain, phase: int, local: domain_event_graphics_address, remote:
  domain_event_graphics_address, authScheme: string, subject: domain_event_graphics_identity<20>)
174 domain_update_device_flags virDomainUpdateDeviceFlags w (dom: domain, xml: string, flags: uint)
178 connect_num_of_nwfilters virConnectNumOfNWFilters r () -> (num: int)
179 connect_list_nwfilters virConnectListNWFilters r (maxnames: int) -> (names: string<16384>)
182 domain_managed_save virDomainManagedSave w (dom: domain, flags: uint)
183 domain_has_managed_save_image virDomainHasManagedSaveImage r (dom: domain, flags: uint) -> (result: int)
184 domain_managed_save_remove virDomainManagedSaveRemove w (dom: domain, flags: uint)
185 domain_snapshot_create_xml virDomainSnapshotCreateXML w (dom: domain, xml_desc: string, flags: uint) ->
  (snap: domain_snapshot)
186 domain_snapshot_get_xml_desc virDomainSnapshotGetXMLDesc c (snap: domain_snapshot, flags: uint) -> (xml:
  string)
187 domain_snapshot_num virDomainSnapshotNum r (dom: domain, flags: uint) -> (num: int)
188 domain_snapshot_list_names virDomainSnapshotListNames r (dom: domain, maxnames: int, flags: uint) ->
  (names: string<16384>)
189 domain_snapshot_lookup_by_name virDomainSnapshotLookupByName r (dom: domain, name: string, flags: uint)
  -> (snap: domain_snapshot)
190 domain_has_current_snapshot virDomainHasCurrentSnapshot r (dom: domain, flags: uint) -> (result: int)
191 domain_snapshot_current virDomainSnapshotCurrent r (dom: domain, flags: uint) -> (snap: domain_snapshot)
192 domain_revert_to_snapshot virDomainRevertToSnapshot w (snap: domain_snapshot, flags: uint)
193 domain_snapshot_delete virDomainSnapshotDelete w (snap: domain_snapshot, flags: uint)
194 domain_get_block_info virDomainGetBlockInfo r (dom: domain, path: string, flags: uint) -> (allocation:
  uhyper, capacity: uhyper, physical: uhyper)
195 domain_event_io_error_reason - e (dom: domain, srcPath: string, devAlias: string, action: int, reason:
  string)
196 domain_create_with_flags virDomainCreateWithFlags w (dom: domain, flags: uint) -> (dom: domain)
197 domain_set_memory_parameters virDomainSetMemoryParameters w (dom: domain, params: typed_param<16>,
  flags: uint)
198 domain_get_memory_parameters virDomainGetMemoryParameters r (dom: domain, nparams: int, flags: uint) ->
  (params: typed_param<16>, nparams: int)
199 domain_set_vcpus_flags virDomainSetVcpusFlags w (dom: domain, nvcpus: uint, flags: uint)
200 domain_get_vcpus_flags virDomainGetVcpusFlags c (dom: domain, flags: uint) -> (num: int)
201 domain_open_console virDomainOpenConsole ws (dom: domain, dev_name: string?, flags: uint)
202 domain_is_updated virDomainIsUpdated r (dom: domain) -> (updated: int)
203 connect_get_sysinfo virConnectGetSysinfo r (flags: uint) -> (sysinfo: string)
204 domain_set_memory_flags virDomainSetMemoryFlags w (dom: domain, memory: uhyper, flags: uint)
205 domain_set_blkio_parameters virDomainSetBlkioParameters w (dom: domain, params: typed_param<16>, flags:
  uint)
206 domain_get_blkio_parameters virDomainGetBlkioParameters r (dom: domain, nparams: int, flags: uint) ->
  (params: typed_param<16>, nparams: int)
208 storage_vol_upload virStorageVolUpload ws (vol: storage_vol, offset: uhyper, length: uhyper, flags:
  uint)
209 storage_vol_download virStorageVolDownload ws (vol: storage_vol, offset: uhyper, length: uhyper, flags:
  uint)
210 domain_inject_nmi virDomainInjectNMI w (dom: domain, flags: uint)
211 domain_screenshot virDomainScreenshot ws (dom: domain, screen: uint, flags: uint) -> (mime: string?)
212 domain_get_state virDomainGetState r (dom: domain, flags: uint) -> (state: int, reason: int)
219 domain_set_scheduler_parameters_flags virDomainSetSchedulerParametersFlags w (dom: domain, params:
  typed_param<16>, flags: uint)
223 domain_get_scheduler_parameters_flags virDomainGetSchedulerParametersFlags r (dom: domain, nparams: int,
  flags: uint) -> (params: typed_param<16>)
224 domain_event_control_error - e (dom: domain)
225 domain_pin_vcpu_flags virDomainPinVcpuFlags w (dom: domain, vcpu: uint, cpumap: bytes<2048>, flags:
  uint)
226 domain_send_key virDomainSendKey w (dom: domain, codeset: uint, holdtime: uint, keycodes: uint<16>,
  flags: uint)
227 node_get_cpu_stats virNodeGetCPUStats r (cpuNum: int, nparams: int, flags: uint) -> (params:
  node_get_cpu_stats<16>, nparams: int)
228 node_get_memory_stats virNodeGetMemoryStats r (nparams: int, cellNum: int, flags: uint) -> (params:
  node_get_memory_stats<16>, nparams: int)
229 domain_get_control_info virDomainGetControlInfo r (dom: domain, flags: uint) -> (state: uint, details:
  uint, stateTime: uhyper)
230 domain_get_vcpu_pin_info virDomainGetVcpuPinInfo r (dom: domain, ncpumaps: int, maplen: int, flags:
  uint) -> (cpumaps: bytes<8388608>, num: int)
231 domain_undefine_flags virDomainUndefineFlags w (dom: domain, flags: uint)
232 domain_save_flags virDomainSaveFlags w (dom: domain, to: string, dxml: string?, flags: uint)
233 domain_restore_flags virDomainRestoreFlags w (from: string, dxml: string?, flags: uint)
234 domain_destroy_flags virDomainDestroyFlags w (dom: domain, flags: uint)
235 domain_save_image_get_xml_desc virDomainSaveImageGetXMLDesc w (file: string, flags: uint) -> (xml:
  string)
236 domain_save_image_define_xml virDomainSaveImageDefineXML w (file: string, dxml: string, flags: uint)
237 domain_block_job_abort virDomainBlockJobAbort w (dom: domain, path: string, flags: uint)
238 domain_get_block_job_info virDomainGetBlockJobInfo r (dom: domain, path: string, flags: uint) -> (found:
  int, type: int, bandwidth: uhyper, cur: uhyper, end: uhyper)
239 domain_block_job_set_speed virDomainBlockJobSetSpeed w (dom: domain, path: string, bandwidth: uhyper,
  flags: uint)
240 domain_block_pull virDomainBlockPull w (dom: domain, path: string, bandwidth: uhyper, flags: uint)
241 domain_event_block_job - e (dom: domain, path: string, type: int, status: int)
243 domain_block_stats_flags virDomainBlockStatsFlags r (dom: domain, path: string, nparams: int, flags:
  uint) -> (params: typed_param<16>, nparams: int)
244 domain_snapshot_get_parent virDomainSnapshotGetParent r (snap: domain_snapshot, flags: uint) -> (snap:
  domain_snapshot)
245 domain_reset virDomainReset w (dom: domain, flags: uint)
246 domain_snapshot_num_children virDomainSnapshotNumChildren r (snap: domain_snapshot, flags: uint) ->
  (num: int)
247 domain_snapshot_list_children_names virDomainSnapshotListChildrenNames r (snap: domain_snapshot,
  maxnames: int, flags: uint) -> (names: string<16384>)
248 domain_event_disk_change - e (dom: domain, oldSrcPath: string?, newSrcPath: string?, devAlias: string,
  reason: int)
251 domain_block_resize virDomainBlockResize w (dom: domain, disk: string, size: uhyper, flags: uint)
252 domain_set_block_io_tune virDomainSetBlockIoTune w (dom: domain, disk: string, params: typed_param<32>,
  flags: uint)
253 domain_get_block_io_tune virDomainGetBlockIoTune r (dom: domain, disk: string?, nparams: int, flags:
  uint) -> (params: typed_param<32>, nparams: int)
254 domain_set_numa_parameters virDomainSetNumaParameters w (dom: domain, params: typed_param<16>, flags:
  uint)
255 domain_get_numa_parameters virDomainGetNumaParameters r (dom: domain, nparams: int, flags: uint) ->
  (params: typed_param<16>, nparams: int)
256 domain_set_interface_parameters virDomainSetInterfaceParameters w (dom: domain, device: string, params:
  typed_param<16>, flags: uint)
257 domain_get_interface_parameters virDomainGetInterfaceParameters r (dom: domain, device: string, nparams:
  int, flags: uint) -> (params: typed_param<16>, nparams: int)
258 domain_shutdown_flags virDomainShutdownFlags w (dom: domain, flags: uint)
259 storage_vol_wipe_pattern virStorageVolWipePattern w (vol: storage_vol, algorithm: uint, flags: uint)
260 storage_vol_resize virStorageVolResize w (vol: storage_vol, capacity: uhyper, flags: uint)
261 domain_pm_suspend_for_duration virDomainPMSuspendForDuration w (dom: domain, target: uint, duration:
  uhyper, flags: uint)
262 domain_get_cpu_stats virDomainGetCPUStats r (dom: domain, nparams: uint, start_cpu: int, ncpus: uint,
  flags: uint) -> (params: typed_param<2048>, nparams: int)
263 domain_get_disk_errors virDomainGetDiskErrors r (dom: domain, maxerrors: uint, flags: uint) -> (errors:
  domain_disk_error<256>, nerrors: int)
264 domain_set_metadata virDomainSetMetadata w (dom: domain, type: int, metadata: string?, key: string?,
  uri: string?, flags: uint)
265 domain_get_metadata virDomainGetMetadata r (dom: domain, type: int, uri: string?, flags: uint) ->
  (metadata: string)
266 domain_block_rebase virDomainBlockRebase w (dom: domain, path: string, base: string?, bandwidth: uhyper,
  flags: uint)
267 domain_pm_wakeup virDomainPMWakeup w (dom: domain, flags: uint)
268 domain_event_tray_change - e (dom: domain, devAlias: string, reason: int)
269 domain_event_pmwakeup - e (dom: domain)
270 domain_event_pmsuspend - e (dom: domain)
271 domain_snapshot_is_current virDomainSnapshotIsCurrent r (snap: domain_snapshot, flags: uint) ->
  (current: int)
272 domain_snapshot_has_metadata virDomainSnapshotHasMetadata r (snap: domain_snapshot, flags: uint) ->
  (metadata: int)
273 connect_list_all_domains virConnectListAllDomains r (need_results: int, flags: uint) -> (domains:
  domain<16384>, ret: uint)
274 domain_list_all_snapshots virDomainListAllSnapshots r (dom: domain, need_results: int, flags: uint) ->
  (snapshots: domain_snapshot<16384>, ret: int)
275 domain_snapshot_list_all_children virDomainSnapshotListAllChildren r (snapshot: domain_snapshot,
  need_results: int, flags: uint) -> (snapshots: domain_snapshot<16384>, ret: int)
276 domain_event_balloon_change - e (dom: domain, actual: uhyper)
277 domain_get_hostname virDomainGetHostname w (dom: domain, flags: uint) -> (hostname: string)
278 domain_get_security_label_list virDomainGetSecurityLabelList r (dom: domain) -> (labels:
  domain_get_security_label_ret<64>, ret: int)
279 domain_pin_emulator virDomainPinEmulator w (dom: domain, cpumap: bytes<2048>, flags: uint)
280 domain_get_emulator_pin_info virDomainGetEmulatorPinInfo r (dom: domain, maplen: int, flags: uint) ->
  (cpumaps: bytes<8388608>, ret: int)
281 connect_list_all_storage_pools virConnectListAllStoragePools r (need_results: int, flags: uint) ->
  (pools: storage_pool<16384>, ret: uint)
282 storage_pool_list_all_volumes virStoragePoolListAllVolumes r (pool: storage_pool, need_results: int,
  flags: uint) -> (vols: storage_vol<16384>, ret: uint)
283 connect_list_all_networks virConnectListAllNetworks r (need_results: int, flags: uint) -> (nets:
  network<16384>, ret: uint)
284 connect_list_all_interfaces virConnectListAllInterfaces r (need_results: int, flags: uint) -> (ifaces:
  interface<16384>, ret: uint)
285 connect_list_all_node_devices virConnectListAllNodeDevices r (need_results: int, flags: uint) ->
  (devices: node_device<65536>, ret: uint)
286 connect_list_all_nwfilters virConnectListAllNWFilters r (need_results: int, flags: uint) -> (filters:
  nwfilter<16384>, ret: uint)
287 connect_list_all_secrets virConnectListAllSecrets r (need_results: int, flags: uint) -> (secrets:
  secret<16384>, ret: uint)
289 node_get_memory_parameters virNodeGetMemoryParameters r (nparams: int, flags: uint) -> (params:
  typed_param<64>, nparams: int)
290 domain_block_commit virDomainBlockCommit w (dom: domain, disk: string, base: string?, top: string?,
  bandwidth: uhyper, flags: uint)
292 domain_event_pmsuspend_disk - e (dom: domain)
293 node_get_cpu_map virNodeGetCPUMap r (need_map: int, need_online: int, flags: uint) -> (cpumap:
  bytes<2048>, online: uint, ret: int)
294 domain_fstrim virDomainFSTrim w (dom: domain, mountPoint: string?, minimum: uhyper, flags: uint)
296 domain_open_channel virDomainOpenChannel ws (dom: domain, name: string?, flags: uint)
298 domain_get_job_stats virDomainGetJobStats r (dom: domain, flags: uint) -> (type: int, params:
  typed_param<64>)
308 domain_set_memory_stats_period virDomainSetMemoryStatsPeriod w (dom: domain, period: int, flags: uint)
311 domain_event_device_removed - e (dom: domain, devAlias: string)
312 connect_get_cpu_model_names virConnectGetCPUModelNames r (arch: string, need_results: int, flags: uint)
  -> (models: string<8192>, ret: int)
313 connect_network_event_register_any virConnectNetworkEventRegisterAny r (eventID: int, net: network?) ->
  (callbackID: int)
314 connect_network_event_deregister_any virConnectNetworkEventDeregisterAny r (callbackID: int)
316 connect_domain_event_callback_register_any virConnectDomainEventRegisterAny r (eventID: int, dom:
  domain?) -> (callbackID: int)
317 connect_domain_event_callback_deregister_any virConnectDomainEventDeregisterAny r (callbackID: int)
318 domain_event_callback_lifecycle - e (callbackID: int, msg: domain_event_lifecycle_msg)
319 domain_event_callback_reboot - e (callbackID: int, msg: domain_event_reboot_msg)
320 domain_event_callback_rtc_change - e (callbackID: int, msg: domain_event_rtc_change_msg)
321 domain_event_callback_watchdog - e (callbackID: int, msg: domain_event_watchdog_msg)
322 domain_event_callback_io_error - e (callbackID: int, msg: domain_event_io_error_msg)
323 domain_event_callback_graphics - e (callbackID: int, msg: domain_event_graphics_msg)
324 domain_event_callback_io_error_reason - e (callbackID: int, msg: domain_event_io_error_reason_msg)
325 domain_event_callback_control_error - e (callbackID: int, msg: domain_event_control_error_msg)
326 domain_event_callback_block_job - e (callbackID: int, msg: domain_event_block_job_msg)
327 domain_event_callback_disk_change - e (callbackID: int, msg: domain_event_disk_change_msg)
328 domain_event_callback_tray_change - e (callbackID: int, msg: domain_event_tray_change_msg)
329 domain_event_callback_pmwakeup - e (callbackID: int, reason: int, msg: domain_event_pmwakeup_msg)
330 domain_event_callback_pmsuspend - e (callbackID: int, reason: int, msg: domain_event_pmsuspend_msg)
331 domain_event_callback_balloon_change - e (callbackID: int, msg: domain_event_balloon_change_msg)
332 domain_event_callback_pmsuspend_disk - e (callbackID: int, reason: int, msg:
  domain_event_pmsuspend_disk_msg)
333 domain_event_callback_device_removed - e (callbackID: int, msg: domain_event_device_removed_msg)
334 domain_core_dump_with_format virDomainCoreDumpWithFormat w (dom: domain, to: string, dumpformat: uint,
  flags: uint)
335 domain_fsfreeze virDomainFSFreeze w (dom: domain, mountpoints: string<256>, flags: uint) ->
  (filesystems: int)
336 domain_fsthaw virDomainFSThaw w (dom: domain, mountpoints: string<256>, flags: uint) -> (filesystems:
  int)
337 domain_get_time virDomainGetTime w (dom: domain, flags: uint) -> (seconds: hyper, nseconds: uint)
338 domain_set_time virDomainSetTime w (dom: domain, seconds: hyper, nseconds: uint, flags: uint)
339 domain_event_block_job_2 - e (callbackID: int, dom: domain, dst: string, type: int, status: int)
340 node_get_free_pages virNodeGetFreePages r (pages: uint<1024>, startCell: int, cellCount: uint, flags:
  uint) -> (counts: uhyper<1024>)
342 connect_get_domain_capabilities virConnectGetDomainCapabilities w (emulatorbin: string?, arch: string?,
  machine: string?, virttype: string?, flags: uint) -> (capabilities: string)
343 domain_open_graphics_fd virDomainOpenGraphicsFD w (dom: domain, idx: uint, flags: uint)
344 connect_get_all_domain_stats virConnectGetAllDomainStats r (doms: domain<16384>, stats: uint, flags:
  uint) -> (retStats: domain_stats_record<16384>)
345 domain_block_copy virDomainBlockCopy w (dom: domain, path: string, destxml: string, params:
  typed_param<16>, flags: uint)
346 domain_event_callback_tunable - e (callbackID: int, dom: domain, params: typed_param<2048>)
348 domain_event_callback_agent_lifecycle - e (callbackID: int, dom: domain, state: int, reason: int)
349 domain_get_fsinfo virDomainGetFSInfo w (dom: domain, flags: uint) -> (info: domain_fsinfo<256>, ret:
  uint)
350 domain_define_xml_flags virDomainDefineXMLFlags w (xml: string, flags: uint) -> (dom: domain)
351 domain_get_iothread_info virDomainGetIOThreadInfo r (dom: domain, flags: uint) -> (info:
  domain_iothread_info<16384>, ret: uint)
352 domain_pin_iothread virDomainPinIOThread w (dom: domain, iothreads_id: uint, cpumap: bytes<2048>, flags:
  uint)
353 domain_interface_addresses virDomainInterfaceAddresses c (dom: domain, source: uint, flags: uint) ->
  (ifaces: domain_interface<2048>)
354 domain_event_callback_device_added - e (callbackID: int, dom: domain, devAlias: string)
355 domain_add_iothread virDomainAddIOThread w (dom: domain, iothread_id: uint, flags: uint)
356 domain_del_iothread virDomainDelIOThread w (dom: domain, iothread_id: uint, flags: uint)
357 domain_set_user_password virDomainSetUserPassword w (dom: domain, user: string?, password: string?,
  flags: uint)
358 domain_rename virDomainRename w (dom: domain, new_name: string?, flags: uint) -> (retcode: int)
359 domain_event_callback_migration_iteration - e (callbackID: int, dom: domain, iteration: int)
360 connect_register_close_callback virConnectRegisterCloseCallback r ()
361 connect_unregister_close_callback virConnectUnregisterCloseCallback r ()
362 connect_event_connection_closed - e (reason: int)
363 domain_event_callback_job_completed - e (callbackID: int, dom: domain, params: typed_param<64>)
367 domain_event_callback_device_removal_failed - e (callbackID: int, dom: domain, devAlias: string)
368 connect_storage_pool_event_register_any virConnectStoragePoolEventRegisterAny r (eventID: int, pool:
  storage_pool?) -> (callbackID: int)
369 connect_storage_pool_event_deregister_any virConnectStoragePoolEventDeregisterAny r (callbackID: int)
370 storage_pool_event_lifecycle - e (callbackID: int, pool: storage_pool, event: int, detail: int)
371 domain_get_guest_vcpus virDomainGetGuestVcpus w (dom: domain, flags: uint) -> (params: typed_param<64>)
372 domain_set_guest_vcpus virDomainSetGuestVcpus w (dom: domain, cpumap: string, state: int, flags: uint)
373 storage_pool_event_refresh - e (callbackID: int, pool: storage_pool)
374 connect_node_device_event_register_any virConnectNodeDeviceEventRegisterAny r (eventID: int, dev:
  node_device?) -> (callbackID: int)
375 connect_node_device_event_deregister_any virConnectNodeDeviceEventDeregisterAny r (callbackID: int)
378 storage_vol_get_info_flags virStorageVolGetInfoFlags r (vol: storage_vol, flags: uint) -> (type: int,
  capacity: uhyper, allocation: uhyper)
379 domain_event_callback_metadata_change - e (callbackID: int, dom: domain, type: int, nsuri: string?)
380 connect_secret_event_register_any virConnectSecretEventRegisterAny r (eventID: int, secret: secret?) ->
  (callbackID: int)
381 connect_secret_event_deregister_any virConnectSecretEventDeregisterAny r (callbackID: int)
384 domain_set_vcpu virDomainSetVcpu w (dom: domain, cpumap: string, state: int, flags: uint)
385 domain_event_block_threshold - e (callbackID: int, dom: domain, dev: string, path: string?, threshold:
  uhyper, excess: uhyper)
386 domain_set_block_threshold virDomainSetBlockThreshold w (dom: domain, dev: string, threshold: uhyper,
  flags: uint)
388 domain_managed_save_get_xml_desc virDomainManagedSaveGetXMLDesc c (dom: domain, flags: uint) -> (xml:
  string)
389 domain_managed_save_define_xml virDomainManagedSaveDefineXML w (dom: domain, dxml: string?, flags: uint)
391 storage_pool_lookup_by_target_path virStoragePoolLookupByTargetPath r (path: string) -> (pool:
  storage_pool)
392 domain_detach_device_alias virDomainDetachDeviceAlias w (dom: domain, alias: string, flags: uint)
401 connect_list_all_nwfilter_bindings virConnectListAllNWFilterBindings r (need_results: int, flags: uint)
  -> (bindings: nwfilter_binding<16384>, ret: uint)
403 connect_get_storage_pool_capabilities virConnectGetStoragePoolCapabilities r (flags: uint) ->
  (capabilities: string)
411 domain_checkpoint_create_xml virDomainCheckpointCreateXML w (dom: domain, xml_desc: string, flags: uint)
  -> (checkpoint: domain_checkpoint)
412 domain_checkpoint_get_xml_desc virDomainCheckpointGetXMLDesc c (checkpoint: domain_checkpoint, flags:
  uint) -> (xml: string)
413 domain_list_all_checkpoints virDomainListAllCheckpoints r (dom: domain, need_results: int, flags: uint)
  -> (checkpoints: domain_checkpoint<16384>, ret: int)
414 domain_checkpoint_list_all_children virDomainCheckpointListAllChildren r (checkpoint: domain_checkpoint,
  need_results: int, flags: uint) -> (checkpoints: domain_checkpoint<16384>, ret: int)
415 domain_checkpoint_lookup_by_name virDomainCheckpointLookupByName r (dom: domain, name: string, flags:
  uint) -> (checkpoint: domain_checkpoint)
416 domain_checkpoint_get_parent virDomainCheckpointGetParent r (checkpoint: domain_checkpoint, flags: uint)
  -> (parent: domain_checkpoint)
417 domain_checkpoint_delete virDomainCheckpointDelete w (checkpoint: domain_checkpoint, flags: uint)
418 domain_get_guest_info virDomainGetGuestInfo w (dom: domain, types: uint, flags: uint) -> (params:
  typed_param<2048>)
421 domain_backup_begin virDomainBackupBegin w (dom: domain, backup_xml: string, checkpoint_xml: string?,
  flags: uint)
422 domain_backup_get_xml_desc virDomainBackupGetXMLDesc r (dom: domain, flags: uint) -> (xml: string)
423 domain_event_memory_failure - e (callbackID: int, dom: domain, recipient: int, action: int, flags: uint)
424 domain_authorized_ssh_keys_get virDomainAuthorizedSSHKeysGet w (dom: domain, user: string, flags: uint)
  -> (keys: string<2048>)
425 domain_authorized_ssh_keys_set virDomainAuthorizedSSHKeysSet w (dom: domain, user: string, keys:
  string<2048>, flags: uint)
426 domain_get_messages virDomainGetMessages r (dom: domain, flags: uint) -> (msgs: string<2048>)
433 node_device_get_autostart virNodeDeviceGetAutostart r (name: string) -> (autostart: int)
435 node_device_is_persistent virNodeDeviceIsPersistent r (name: string) -> (persistent: int)
436 node_device_is_active virNodeDeviceIsActive r (name: string) -> (active: int)
438 domain_event_memory_device_size_change - e (callbackID: int, dom: domain, alias: string, size: uhyper)
440 domain_save_params virDomainSaveParams w (dom: domain, params: typed_param<64>, flags: uint)
441 domain_restore_params virDomainRestoreParams w (params: typed_param<64>, flags: uint)
442 domain_abort_job_flags virDomainAbortJobFlags w (dom: domain, flags: uint)
449 domain_get_autostart_once virDomainGetAutostartOnce r (dom: domain) -> (autostart: int)
450 domain_set_autostart_once virDomainSetAutostartOnce w (dom: domain, autostart: int)
453 domain_event_nic_mac_change - e (callbackID: int, dom: domain, alias: string, oldMAC: string, newMAC:
  string)
"""

QEMU = """
1 domain_monitor_command virDomainQemuMonitorCommand w (dom: domain, cmd: string, flags: uint) -> (result:
  string)
2 domain_attach virDomainQemuAttach w (pid_value: uint, flags: uint) -> (dom: domain)
3 domain_agent_command virDomainQemuAgentCommand w (dom: domain, cmd: string, timeout: int, flags: uint) ->
  (result: string?)
4 connect_domain_monitor_event_register virConnectDomainQemuMonitorEventRegister w (dom: domain?, event:
  string?, flags: uint) -> (callbackID: int)
5 connect_domain_monitor_event_deregister virConnectDomainQemuMonitorEventDeregister w (callbackID: int)
6 domain_monitor_event - e (callbackID: int, dom: domain, event: string, seconds: hyper, micros: uint,
  details: string?)
"""

OWN_STRUCTS = """
chain_layer = path: string, format: string, allocation: uhyper, snapshots: string<16384>, missing: int
chain = target: string, layers: chain_layer<16384>
block_job = type: int, target: string, source: string, state: string, error: string?
plan_report = operation: string, subject: string, makes: string<65536>, removes: string<65536>,
  merges: string<65536>, pause: string, steps: string<65536>
"""

OWN = """
1 domain_block_chains virtsnapBlockChains r (dom: domain, inactive: int) -> (chains: chain<4096>)
2 domain_plan_create virtsnapPlanCreate w (dom: domain, xml: string, flags: uint) -> (report: plan_report)
3 domain_plan_revert virtsnapPlanRevert w (snap: domain_snapshot, flags: uint) -> (report: plan_report)
4 domain_plan_delete virtsnapPlanDelete w (snap: domain_snapshot, flags: uint) -> (report: plan_report)
5 domain_plan_flatten virtsnapPlanFlatten w (dom: domain, targets: string<4096>, copy: int) -> (report:
  plan_report)
6 domain_flatten virtsnapFlatten w (dom: domain, targets: string<4096>, copy: int)
7 cancel_call virtsnapCancelCall r (serial: uint)
8 domain_block_job_wait virtsnapBlockJobWait r (dom: domain, path: string) -> (job: block_job?)
9 domain_snapshot_clone virtsnapSnapshotClone w (snap: domain_snapshot, names: string<4096>, start: int,
  paused: int) -> (doms: domain<4096>)
10 domain_plan_clone virtsnapPlanClone w (snap: domain_snapshot, names: string<4096>, start: int, paused:
  int) -> (report: plan_report)
11 domain_discard virtsnapDiscard w (dom: domain)
12 domain_snapshot_create virDomainSnapshotCreateXML w (dom: domain, xml: string, flags: uint) -> (snap:
  domain_snapshot, memory_mode: string, memory_reason: string)
"""
