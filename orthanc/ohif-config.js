// OHIF 3.13 beside Orthanc, as pacsight's sandbox serves it: its app-config.js.
//
// All addresses are relative: whatever serves OHIF passes /dicom-web and /wado on to
// Orthanc. An address with &hangingProtocolId=pacsight opens a study with its newest
// page beside the image.

const isPage = [
  { attribute: 'Modality', constraint: { equals: { value: 'OT' } }, required: true },
  {
    attribute: 'SeriesDescription',
    constraint: { startsWith: { value: 'AI ' } },
    required: true,
  },
];

const isImage = [
  {
    attribute: 'numImageFrames',
    constraint: { greaterThan: { value: 0 } },
    required: true,
  },
  {
    attribute: 'SeriesDescription',
    constraint: { doesNotContain: { value: 'RESEARCH, NOT FOR DIAGNOSIS' } },
    required: true,
  },
];

const viewport = (viewportId, selector) => ({
  viewportOptions: { viewportId, viewportType: 'stack', toolGroupId: 'default', allowUnmatchedView: true },
  displaySets: [{ id: selector }],
});

const imageAndPage = {
  id: 'pacsight',
  name: 'Image and AI page',
  protocolMatchingRules: [],
  toolGroupIds: ['default'],
  numberOfPriorsReferenced: 0,
  defaultViewport: viewport('default', 'image'),
  displaySetSelectors: {
    image: { seriesMatchingRules: isImage },
    page: { seriesMatchingRules: isPage },
  },
  stages: [
    {
      name: 'image and page',
      viewportStructure: { layoutType: 'grid', properties: { rows: 1, columns: 2 } },
      viewports: [viewport('image', 'image'), viewport('page', 'page')],
    },
  ],
};

window.config = {
  name: 'pacsight sandbox',
  routerBasename: null,
  extensions: [
    {
      id: 'pacsight',
      getHangingProtocolModule: () => [{ name: imageAndPage.id, protocol: imageAndPage }],
    },
  ],
  modes: [],
  customizationService: [
    {
      'ohif.tours': { $set: [] }, // an introduction that lies over the first study
      autoCineModalities: { $set: ['US'] }, // no film bar over the page
    },
  ],
  showStudyList: true,
  maxNumberOfWebWorkers: 2,
  showErrorDetails: 'always',
  investigationalUseDialog: { option: 'never' }, // the page says so itself
  defaultDataSourceName: 'orthanc',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'orthanc',
      configuration: {
        friendlyName: 'Orthanc',
        name: 'orthanc',
        qidoRoot: '/dicom-web',
        wadoRoot: '/dicom-web',
        wadoUriRoot: '/wado',
        qidoSupportsIncludeField: false,
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors', // Orthanc 1.10 has no /thumbnail
        enableStudyLazyLoad: true,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        omitQuotationForMultipartRequest: true,
        bulkDataURI: { enabled: true },
      },
    },
  ],
};
